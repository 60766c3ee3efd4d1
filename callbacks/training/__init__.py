"""Observe training itself: gradients, optimizer, time, and hyper-parameters."""
