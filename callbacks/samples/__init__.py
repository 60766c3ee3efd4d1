"""Show single batches and samples: best and worst, explained, embedded, augmented, listed."""
