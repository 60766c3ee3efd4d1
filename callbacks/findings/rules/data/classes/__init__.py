"""Classes: those that are missing, rare, or numbered in another way than the model numbers them."""
