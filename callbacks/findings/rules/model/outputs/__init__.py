"""What the model returns for the first batch."""
