"""Keep the cost of the diagnostics within a share of the loop's time."""
