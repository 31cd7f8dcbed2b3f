"""What make and the tests use to build and check the project; no part of the application, and not in the wheel."""
