"""Checks of loaders, batches, targets and weights: wrong use ends in one line that names argument and sample."""
