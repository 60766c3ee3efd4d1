"""Faults of the catalogue that no rule names as yet; the table shows them as well."""

NOT_NAMED = frozenset({
    "brightness wraps around in uint8", "contrast wraps around in uint8 at random",
    "the lower half of many images is missing", "a sampler never draws a class",
    "labels of boxes begin at 0, which is the background", "masks are resized between their classes",
    "void is class 3, which the loss learns", "masks have the class of squares in validation alone",
    "the classes of masks are exchanged in validation",
    "validation images have their colours in the order of OpenCV",
    "training images have their colours in the order of OpenCV",
    "validation has another mean and std than training",
    "the mean and std of bytes are taken from images of 0 to 1", "all workers draw the same",
    "validation shows a part of the image, enlarged",
    "training images are far more blurred than validation images",
    "images are integers that a normalization cut off",
    "the body has a learning rate a thousand times too high", "a schedule for batches steps with each epoch",
    "a moving average that has hardly moved is validated",
})  # fmt: skip
