"""Files of catalogues and logs: rows in, records out."""
