"""Workers of a loader that draw the same random numbers.

Source: the note "My data loader workers return identical random numbers" of PyTorch's FAQ; here a generator that each
worker copies, as torch seeds the global ones by itself.
Cost: two samples, read by two forked processes a few times; nothing without workers.
Risk: none known where samples are augmented; without workers there is nothing to find.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule


@rule("alike-workers", at="data", explained_by=["same-draw"])
def alike_workers(probe: Probe) -> Iterator[Finding]:
    """Find training loaders of which two workers draw the same numbers for different samples."""
    for loader in probe.loaders.values():
        if loader.trains and loader.workers > 1 and loader.workers_alike:
            yield Finding(
                "warning",
                f"the {loader.workers} workers of {loader.key} draw the same random numbers, so that"
                f" {loader.workers} batches at a time are augmented alike",
                "make the generator in the worker (worker_init_fn), with a seed from torch.initial_seed()",
                Where(loader.key, loader.image_key),
                {"workers": loader.workers},
            )
