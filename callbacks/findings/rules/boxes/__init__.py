"""Boxes against images."""
