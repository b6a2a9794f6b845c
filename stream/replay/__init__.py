"""Replay: historical logs through the live processors, measured, in a report."""
