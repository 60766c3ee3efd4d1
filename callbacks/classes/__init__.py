"""Count over a loader how classes and their scores are predicted, and show it."""
