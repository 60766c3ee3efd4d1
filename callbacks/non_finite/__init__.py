"""Keep NaN and infinite values out of the weights, and report where they began."""
