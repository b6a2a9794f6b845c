"""A log of events as arrays, and the questions that it is split into."""
