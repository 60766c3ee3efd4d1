"""Groups of parameters with learning rates of their own, and the table that shows them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catalyst import dl
from torch import nn

from assay.callbacks.base.order import FIRST
from assay.callbacks.support.tables import markdown_table
from assay.callbacks.support.unwrap import raw_optimizers
from assay.callbacks.tensorboard.find_writer import find_writer, writes_nothing

from .layers import head_of, layers_of
from .loaded import named_parameters

HEAD = "head"
BODY = "body"
"""Names of the groups beside those of layers."""


def parameter_groups(
    models: Mapping[str, nn.Module], *, lr: float, lr_decay: float | None = None, lr_head: float | None = None
) -> list[dict[str, Any]]:
    """Return groups for an optimizer: ``name``, ``params`` and ``lr`` of each, frozen parameters included.

    Layer-wise decay is that of H. Bao et al., "BEiT: BERT Pre-Training of Image Transformers", 2021, as timm has it:
    the last of n layers has ``lr``, and layer i, from 0, ``lr * lr_decay ** (n - 1 - i)``.

    Args:
        models: by name; the only one is called ``""``.
        lr: of the last layer, and of all without ``lr_decay``.
        lr_decay: factor from each layer to the one before it, above 0 and below 1, see ``layers_of``.
        lr_head: of the head alone, which is no layer then for ``lr_decay``, see ``head_of``.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
        >>> [(group["name"], group["lr"]) for group in parameter_groups({"": net}, lr=0.4, lr_decay=0.5)]
        [('0_0', 0.1), ('1_1', 0.2), ('2_2', 0.4)]
        >>> [(group["name"], group["lr"]) for group in parameter_groups({"": net}, lr=0.1, lr_head=1.0)]
        [('body', 0.1), ('head', 1.0)]
    """
    # Integers have no gradient in torch.
    parameters = {name: it for name, it in named_parameters(models) if it.is_floating_point() or it.is_complex()}
    head = [name for name in head_of(models) if name in parameters] if lr_head is not None else []
    layers = layers_of(models) if lr_decay is not None else [list(parameters)]
    count, digits = len(layers), len(str(len(layers) - 1))
    groups = []
    for number, layer in enumerate(layers):
        names = [name for name in layer if name in parameters and name not in set(head)]
        label = BODY if lr_decay is None else f"{number:0{digits}}_{_label(names, parameters)}"
        scale = 1.0 if lr_decay is None else lr_decay ** (count - 1 - number)
        groups.append({"name": label, "params": [parameters[name] for name in names], "lr": lr * scale})
    if head:
        groups.append({"name": HEAD, "params": [parameters[name] for name in head], "lr": lr_head})
    return [group for group in groups if group["params"]]


def _label(names: Sequence[str], every: Iterable[str]) -> str:
    """Return the module that some parameters are of: that of all of them, or where it is one of most, of the first."""
    if not names:
        return ""
    own = _common([name.split(".")[:-1] for name in names])
    whole = _common([name.split(".")[:-1] for name in every])
    return ".".join(own) if len(own) > len(whole) else names[0].rpartition(".")[0] or names[0]


def _common(paths: Sequence[Sequence[str]]) -> list[str]:
    common: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return common


@dataclass(frozen=True)
class GroupRow:
    """A row of the table: a group with its name, number of values, learning rate, and how many values are frozen."""

    name: str
    size: int
    lr: float
    frozen: int


def describe_groups(optimizer: Any) -> list[GroupRow]:
    """Return a row per group of one optimizer, or of several by name; before a schedule changes the learning rates."""
    rows = []
    for key, part in raw_optimizers(optimizer).items():
        for number, group in enumerate(part.param_groups):
            name = str(group.get("name", "all" if len(part.param_groups) == 1 else number))
            frozen = sum(it.numel() for it in group["params"] if not it.requires_grad)
            size = sum(it.numel() for it in group["params"])
            rows.append(GroupRow(f"{key}-{name}" if key else name, size, float(group["lr"]), frozen))
    return rows


def has_named_groups(optimizer: Any) -> bool:
    """Whether an optimizer, or one of several by name, has groups of ``parameter_groups``."""
    return any("name" in group for part in raw_optimizers(optimizer).values() for group in part.param_groups)


HEADING = ("group", "parameters", "lr", "frozen")


def cells(rows: Sequence[GroupRow], unfreeze_epoch: int | None = None) -> list[list[str]]:
    """Return the rows of a table below ``HEADING`` as text."""
    until = "" if unfreeze_epoch is None else f" until epoch {unfreeze_epoch}"
    return [[it.name, f"{it.size:,}", f"{it.lr:.3g}", _frozen(it, until)] for it in rows]


def _frozen(row: GroupRow, until: str) -> str:
    if not row.frozen:
        return "no"
    return f"yes{until}" if row.frozen == row.size else f"{row.frozen:,}{until}"


class GroupTable(dl.Callback):
    """Writes the groups of parameters that a run begins with to TensorBoard, once.

    ========================== ==== ==============================================================
    tag, in train's folder     kind step and content
    ========================== ==== ==============================================================
    ``9_optimizer/groups``     text 0; a table of each group's parameters, learning rate, frozen
    ========================== ==== ==============================================================

    Args:
        rows: below ``HEADING``, from ``cells``.
    """

    def __init__(self, rows: Sequence[Sequence[str]]):
        super().__init__(order=FIRST)
        self.rows = [list(row) for row in rows]

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        if not writes_nothing(runner):
            writer = find_writer(runner, None, asked_by=type(self).__name__)
            writer.text("9_optimizer/groups", markdown_table(HEADING, self.rows), 0)
