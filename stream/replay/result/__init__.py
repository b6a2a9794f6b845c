"""The result of a replay as a file, and its verdict."""
