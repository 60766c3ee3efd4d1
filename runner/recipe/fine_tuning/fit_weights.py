"""Load those trained weights into a model that fit it by name and shape, and list the others."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from assay.callbacks.errors import UsageError
from assay.callbacks.support.unwrap import eager_name

from .loaded import mark_loaded, named_parameters

_NAMED = 3
_DEEPEST = 3  # how many parts of a name a wrapper may have added


@dataclass(frozen=True)
class Fit:
    """What became of trained weights.

    Attributes:
        source: where they come from, in words.
        renamed: how their names were changed to fit, in words; empty where they were not.
        loaded: names of the tensors that the model took.
        other_size: of those that have another shape in the model, the two shapes: the model's, and theirs.
        missing: names of the model's that there are no weights for.
        unused: names of weights that the model has nothing for.
    """

    source: str
    renamed: str
    loaded: Sequence[str]
    other_size: Mapping[str, tuple[list[int], list[int]]]
    missing: Sequence[str]
    unused: Sequence[str]

    def lines(self) -> list[str]:
        """Return it as a few lines of text."""
        count = len(self.loaded) + len(self.other_size) + len(self.missing)
        sizes = [f"{name!r} is {own}, and {given} there" for name, (own, given) in self.other_size.items()]
        others = {
            "of another size, not loaded": sizes,
            "not there, not loaded": list(map(repr, self.missing)),
            "there alone, left out": list(map(repr, self.unused)),
        }
        first = f"weights: {len(self.loaded)} of {count} tensors of the model are those of {self.source}{self.renamed}"
        return [first, *(f"  {kind}: {_first_of(names)}" for kind, names in others.items() if names)]


def _first_of(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f", and {more} more" if more > 0 else "")


def fit_weights(models: Mapping[str, nn.Module], weights: Mapping[str, Tensor], source: str) -> Fit:
    """Load what fits by name and shape into models, in place, and mark these parameters as loaded.

    Names fit without the prefixes of DDP and ``torch.compile``. Where more fit then, a prefix is taken off all of them
    or put before them, as a wrapper around the model has added one here or there: ``conv1.weight`` of a net of timm is
    ``net.conv1.weight`` in a model that holds it as ``net``.

    Args:
        models: by name; the only one is called ``""``.
        weights: by name.
        source: where they come from, for messages.

    Raises:
        UsageError: no parameter fits.
    """
    own = dict(_tensors(models))
    plain = {_without_module(eager_name(name), weights): tensor for name, tensor in weights.items()}
    removed, added = _best_prefixes(own, plain)
    given = {f"{added}{name[len(removed) :]}": it for name, it in plain.items() if name.startswith(removed)}
    loaded = [name for name in own if name in given and fits(own[name], given[name])]
    taken, parameters = set(loaded), dict(named_parameters(models))
    if not any(name in parameters for name in loaded):
        raise UsageError(_nothing_fits(source, own, plain))
    _load(models, {name: given[name] for name in loaded})
    mark_loaded(parameters[name] for name in loaded if name in parameters)
    return Fit(
        source=source,
        renamed=_describe_prefixes(removed, added),
        loaded=loaded,
        other_size={
            name: (list(own[name].shape), list(given[name].shape))
            for name in own
            if name in given and name not in taken
        },
        missing=[name for name in own if name not in given],
        unused=[name for name in plain if f"{added}{name[len(removed) :]}" not in own or not name.startswith(removed)],
    )  # fmt: skip


def fits(own: Tensor, given: Tensor) -> bool:
    """Whether a tensor can take the values of another without losing any but precision."""
    return own.shape == given.shape and own.is_complex() == given.is_complex()


def _tensors(models: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    for key, model in models.items():
        for name, value in model.state_dict().items():
            if isinstance(value, Tensor):
                yield eager_name(f"{key}.{name}" if key else name), value


def _without_module(name: str, every: Collection[str]) -> str:
    # DDP and DataParallel put it before all names; a model may have a part that is called so.
    return name.removeprefix("module.") if all(other.startswith("module.") for other in every) else name


def _best_prefixes(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[str, str]:
    """Return the prefix to take off and the one to put before names so that most of them fit, none where possible."""

    def fitting(removed: str, added: str) -> int:
        pairs = ((f"{added}{name[len(removed) :]}", it) for name, it in given.items() if name.startswith(removed))
        return sum(name in own and fits(own[name], it) for name, it in pairs)

    # As max takes the first of equals: without a change, then with the shorter one.
    choices = [(removed, added) for removed in _prefixes(given) for added in _prefixes(own)]
    choices.sort(key=lambda choice: sum(prefix.count(".") for prefix in choice))
    return max(choices, key=lambda choice: fitting(*choice))


def _prefixes(names: Collection[str]) -> list[str]:
    """Return the beginnings of names that a wrapper may have added: those that many have, and none."""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")[:-1]
        counts.update(".".join(parts[:end]) + "." for end in range(1, min(len(parts), _DEEPEST) + 1))
    return ["", *(prefix for prefix, count in counts.items() if 4 * count >= len(names))]


def _describe_prefixes(removed: str, added: str) -> str:
    if not removed and not added:
        return ""
    if not removed:
        return f", as {added}*"
    return f", whose {removed}* " + (f"are {added}*" if added else "are taken without that")


def _nothing_fits(source: str, own: Collection[str], given: Mapping[str, Any]) -> str:
    ours, theirs = (", ".join(map(repr, list(names)[:2])) for names in (own, given))
    return f"weights: nothing of {source} fits the model: the model has {ours}, there are {theirs}."


def _load(models: Mapping[str, nn.Module], chosen: Mapping[str, Tensor]) -> None:
    for key, model in models.items():
        part: dict[str, Tensor] = {}
        for name in model.state_dict():
            full = eager_name(f"{key}.{name}" if key else name)
            if full in chosen:
                part[name] = chosen[full]
        model.load_state_dict(part, strict=False)
