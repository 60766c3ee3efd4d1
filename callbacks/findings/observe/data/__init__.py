"""Reads samples of loaders in a process of their own."""
