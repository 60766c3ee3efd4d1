"""Masks of another size than their images.

Source: a resize or a crop of the image that the mask does not get.
Cost: none: the shapes of the first batches.
Risk: masks that are smaller on purpose, by a whole number, as for outputs at a quarter of the size; these are left out.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule


@rule("mask-sizes", at="data", explained_by=["one-item"])
def mask_sizes(probe: Probe) -> Iterator[Finding]:
    """Find batches whose masks have another size than their images."""
    for loader in probe.loaders.values():
        sizes = _sizes(loader)
        if sizes is not None and not _on_purpose(*sizes):
            image, mask = sizes
            turned = ", rows and columns exchanged" if image == mask[::-1] else ""
            yield Finding(
                "error",
                f"images of {loader.key} have {image[0]} x {image[1]} pixels and their masks "
                f"{mask[0]} x {mask[1]}{turned}",
                f"resize and crop image and mask of {loader.key} together",
                Where(loader=loader.key, key=loader.target_key),
                {"image": list(image), "mask": list(mask)},
            )


def _sizes(loader: LoaderProbe) -> tuple[tuple[int, int], tuple[int, int]] | None:
    masked = any(sample.mask_values for sample in loader.samples.values())
    if not masked or not loader.batches_seen or loader.image_key is None or loader.target_key is None:
        return None
    shapes = loader.batches_seen[0].shapes
    image, mask = shapes.get(loader.image_key, ()), shapes.get(loader.target_key, ())
    # A mask without pixels, or with classes as its last axis, is something else.
    if len(image) < 4 or len(mask) not in (3, 4):
        return None
    return (image[-2], image[-1]), (mask[-2], mask[-1])


def _on_purpose(image: tuple[int, int], mask: tuple[int, int]) -> bool:
    if image == mask or 0 in mask:
        return True
    small, large = (mask, image) if mask[0] <= image[0] else (image, mask)
    return large[0] % small[0] == 0 and large[1] % small[1] == 0 and large[0] // small[0] == large[1] // small[1]
