"""The demo: the whole path in one process, on the sample shop."""
