"""Benchmarks: each prints a figure beside a reference of the same run."""
