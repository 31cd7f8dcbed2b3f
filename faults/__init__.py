"""What a server does when the network, the database, the disk or its own process fails: `make faults`."""
