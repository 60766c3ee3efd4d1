"""Faults of the catalogue that no rule names as yet; the table shows them as well."""

NOT_NAMED = frozenset({
    "validation shows a part of the image, enlarged",
    "training images are far more blurred than validation images",
    "validation is of another time of day",  # as it is in healthy data too
})  # fmt: skip
