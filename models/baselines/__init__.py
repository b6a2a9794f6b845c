"""Recommenders that need no Weft: what a good model has to beat."""
