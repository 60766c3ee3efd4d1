"""Values of the loss on outputs that are known: right, wrong, blank."""
