"""Masks against images."""
