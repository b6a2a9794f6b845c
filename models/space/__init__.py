"""Spaces in which items and shoppers are vectors: zero-shot and trained."""
