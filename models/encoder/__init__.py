"""Title encoders: text in, unit vectors out."""
