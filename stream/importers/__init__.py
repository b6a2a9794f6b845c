"""Public fashion logs in their published shape, to files that Weft reads."""
