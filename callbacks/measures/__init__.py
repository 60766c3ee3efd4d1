"""What is counted: pure torch, with no Catalyst, no TensorBoard and no rank."""
