"""Labels against what the model has learned to see."""
