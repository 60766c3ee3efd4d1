"""What a model does in its forward pass beside its layers."""
