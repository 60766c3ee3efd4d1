"""Data sets against themselves and each other."""
