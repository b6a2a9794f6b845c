"""Which bundle is to be served, which is, and the switch between two."""
