"""The loss and what it is given."""
