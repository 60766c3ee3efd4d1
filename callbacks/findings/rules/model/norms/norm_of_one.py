"""BatchNorm over a single sample.

Source: S. Ioffe and C. Szegedy, "Batch Normalization", 2015, needs a batch; torch refuses one value per channel.
Cost: none.
Risk: layers in evaluation mode (frozen ones of a detector) take no statistics, and are left out.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import LayerProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import batch_norms, told

_DO = "use larger batches, GroupNorm instead, or put these layers into evaluation mode if they are pretrained"


@rule("norm-of-one", at="model", needs=["model"], explained_by=["evaluation-mode"])
def norm_of_one(probe: Probe) -> Iterator[Finding]:
    """Find statistics that are taken of one value or of one sample, now or in the last batch."""
    if probe.model is None:
        return
    norms = [layer for layer in batch_norms(probe.model) if layer.training]
    single = [layer for layer in norms if layer.values_per_channel == 1]
    size = probe.settings.batch_size or probe.model.batch_size
    pooled = [layer for layer in norms if layer.values_per_channel in (size, probe.model.batch_size)]
    if single:
        yield _of_one(single, "normalizing by one value per channel gives 0 or an error")
    elif norms and size == 1:
        yield _of_one(norms, "batches have one sample, so statistics are of this one alone")
    elif pooled and _last_of_one(probe):
        yield _of_one(pooled, "the last batch of an epoch has one sample, which torch refuses", True)


def _last_of_one(probe: Probe) -> bool:
    train = probe.train
    if train is None or not train.batch_size or train.drop_last:
        return False
    return train.epoch_length % train.batch_size == 1


def _of_one(layers: list[LayerProbe], why: str, last: bool = False) -> Finding:
    names = [layer.name for layer in layers]
    do = "set drop_last or another batch size" if last else _DO
    evidence = {"layers": names[:8], "values": layers[0].values_per_channel}
    return Finding("warning", f"{told(names, layers[0].kind)} cannot work: {why}", do, Where(layer=names[0]), evidence)
