"""Metrics of the first epochs."""
