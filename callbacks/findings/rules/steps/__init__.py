"""The first optimizer steps."""
