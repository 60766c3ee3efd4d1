"""Which samples an epoch gives, and in which order."""
