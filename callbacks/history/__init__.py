"""What becomes of each sample, epoch by epoch."""
