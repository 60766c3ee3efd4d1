"""What is drawn: host values in, an RGB picture out, with no torch and no TensorBoard."""
