"""Find the images, targets and splits of data sets in the layouts that people have."""
