"""Training: a log of events in, the weights of a bundle out. Imports torch, unlike serving."""
