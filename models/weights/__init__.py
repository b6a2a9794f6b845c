"""Weights of the encoder and the LLM: where they are, and their conversion."""
