"""A peer for the benchmark: Django with REST framework and simplejwt, as their documentation builds one."""
