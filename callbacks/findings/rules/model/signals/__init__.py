"""What becomes of the signal and of its gradient from layer to layer."""
