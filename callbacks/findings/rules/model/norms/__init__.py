"""Layers that behave differently in training and in evaluation: normalization over the batch, and dropout."""
