"""A log on disk, and the questions that it asks."""
