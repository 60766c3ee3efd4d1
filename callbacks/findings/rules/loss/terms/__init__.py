"""Terms of the loss beside each other, the targets and the metrics."""
