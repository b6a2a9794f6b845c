"""The LLM as a scorer of token sequences, on each back end."""
