"""How one sample of each task is drawn: its target, its prediction, and a line of text."""
