"""How events get in and recommendations get out."""
