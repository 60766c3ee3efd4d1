"""What the loss and the optimizer step are made of: criteria, optimizers, schedules, monitors."""
