"""What the steps and the epochs of a run show, watched while it trains."""
