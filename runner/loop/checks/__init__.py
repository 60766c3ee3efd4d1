"""Checks of loaders, batches, targets and weights, each with one clear line."""
