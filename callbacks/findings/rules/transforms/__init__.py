"""How training and validation prepare an image."""
