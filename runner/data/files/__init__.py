"""Read images and masks from files of any kind and size."""
