"""What the lists of a replay are worth."""
