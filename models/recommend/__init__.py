"""From a batch of histories to lists with reasons."""
