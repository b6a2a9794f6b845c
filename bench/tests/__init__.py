"""Tests of the benches themselves; they import ``bench``, which the tests of Weft must not."""
