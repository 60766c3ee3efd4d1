"""What a model and a loss do on the first batches, tried on copies of them."""
