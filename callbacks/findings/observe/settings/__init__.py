"""Settings of a run, as its runner, its optimizers and its callbacks tell them."""
