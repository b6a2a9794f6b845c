"""Metrics of ranked lists, and their intervals."""
