"""The sequence model's part of a training."""
