"""Writing to TensorBoard from a thread of its own, and to other trackers beside it."""
