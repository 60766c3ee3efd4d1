"""The model before it is trained."""
