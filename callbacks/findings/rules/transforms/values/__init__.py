"""Rules on values that images of either loader have after their transforms."""
