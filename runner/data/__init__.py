"""Data sets of dicts: order, shards, augmentation and chance as functions of seed and epoch."""
