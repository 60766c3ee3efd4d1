"""Outputs that are not what the loss expects."""
