"""A trained bundle: its files, checked, and its manifest."""
