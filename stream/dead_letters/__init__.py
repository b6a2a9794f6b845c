"""Records that could not be used: made, read, sent back, deleted."""
