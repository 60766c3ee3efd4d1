"""Start from trained weights: of a hub or a file, frozen in part, with learning rates by layer."""
