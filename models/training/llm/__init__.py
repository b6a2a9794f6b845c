"""The LLM's part of a training."""
