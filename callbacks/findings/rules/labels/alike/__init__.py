"""Samples that are alike, by pixels or by features, and what their labels say."""
