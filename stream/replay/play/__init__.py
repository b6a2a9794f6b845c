"""A log played through the live processors and the baselines."""
