"""What the first steps do to the weights."""
