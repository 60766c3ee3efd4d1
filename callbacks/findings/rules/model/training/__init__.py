"""Which parameters are trained, and whether the loss reaches them."""
