"""One sample of each task: its target and prediction as panels and lines of a card."""
