"""What is run: one file an experiment."""
