"""The truth for images to predict: read, matched with the images, and told in the model's class numbers."""
