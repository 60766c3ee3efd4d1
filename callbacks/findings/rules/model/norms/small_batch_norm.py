"""BatchNorm with two to four samples per batch.

Source: Y. Wu and K. He, "Group Normalization", 2018: the error of BatchNorm grows fast below 8 samples.
Cost: none.
Risk: small batches are often all that fits, so it is a note; layers in evaluation mode are left out.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import batch_norms

# At 4 samples the paper measures 27.3% error on ImageNet against 23.6% at 32.
_SMALL = range(2, 5)


@rule("small-batch-norm", at="model", needs=["model", "settings"])
def small_batch_norm(probe: Probe) -> Iterator[Finding]:
    """Tell that statistics are taken of few samples."""
    norms = [layer for layer in batch_norms(probe.model) if layer.training] if probe.model else []
    # SyncBatchNorm takes its statistics over all ranks.
    alone = [layer for layer in norms if "Sync" not in layer.kind or probe.settings.ranks == 1]
    size = probe.settings.batch_size
    if alone and size in _SMALL:
        yield Finding(
            "note",
            f"{len(alone)} BatchNorm layers take their statistics of {size} samples each, which is noisy",
            "consider larger batches or GroupNorm; accumulating gradients does not help here",
            Where(layer=alone[0].name, field="batch_size"),
            {"batch_size": size, "layers": len(alone)},
        )
