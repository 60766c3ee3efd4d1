"""Observe loaders: some of their samples or all of them, read in a process that leaves no trace in this one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from threading import Event, Thread
from typing import Any

from ...probe.loader_probe import LoaderProbe
from .forked import Send, can_fork, messages_of
from .loader_reader import LoaderReader, plain_loader
from .own_time import OwnTime
from .sample_reader import Keys
from .shares import Found, Share, read_over_ranks

Progress = Callable[[int, int], Any]
Batches = dict[str, tuple[Any, ...]]  # by loader

_GRACE = 5.0  # seconds beyond what was given, for a sample that takes long
_BUSY = 4.0  # times what was given, for a machine that is busy with other work
# Shares of the time after which the next part begins.
_FIRST_BATCH, _SAMPLES, _AGAIN, _LEFT_OUT, _MORE_BATCHES, _END = 0.3, 0.6, 0.78, 0.84, 0.9, 0.93
_SENT = {True: 2, False: 1}  # batches that are sent whole of loaders that train, and of others
_BY_PART = ("samples", "again", "errors", "names")
_BY_ONE = ("batches_seen", "first_batches")


@dataclass(frozen=True)
class ObservedData:
    """What was observed of loaders.

    Attributes:
        loaders: what rules read, by key.
        batches: the first batches, as the loaders' own collate makes them: two of loaders that train, one of others;
            of at most 64 samples.
    """

    loaders: dict[str, LoaderProbe]
    batches: Batches = field(default_factory=dict)


def observe_data(
    loaders: Mapping[str, Any],
    *,
    keys: Keys,
    full: bool = False,
    seconds: float = 1.5,
    by_chance: bool = False,
    on_progress: Progress | None = None,
    meanwhile: Callable[[Batches], None] | None = None,
) -> ObservedData:
    """Return what is observed of loaders, and their first batches. A collective: each rank reads a share.

    Loaders, data sets, generators and files stay as they are. What cannot be seen is left empty: where a process cannot
    be forked, or workers are to be started otherwise, only what a loader tells by itself is known.

    Args:
        loaders: by key; those whose key begins with ``train`` train.
        keys: of the parts of an item.
        full: whether all samples are read, however long it takes.
        seconds: otherwise for all loaders together, each of which is read by a process of its own; those in which a
            process is kept waiting by others are not counted, up to four times as many.
        by_chance: whether the runner seeds the generators for each item, so that workers cannot draw alike.
        on_progress: called with the number of samples that have been read, and of all, of this rank's share.
        meanwhile: called once on the main rank with the first batches, as far as there are any, while samples are read.

    Returns:
        On the main rank, what all have read.
    """

    def read(share: Share) -> Found:
        return _read(
            loaders, keys=keys, full=full, seconds=seconds, by_chance=by_chance, on_progress=on_progress, share=share,
            meanwhile=meanwhile if share.leads else None,
        )  # fmt: skip

    found = read_over_ranks(read)
    batches = _first_batches(found)
    return ObservedData({key: LoaderProbe(**_known(one)) for key, one in found.items()}, batches)


def _read(
    loaders: Mapping[str, Any],
    *,
    keys: Keys,
    full: bool,
    seconds: float,
    by_chance: bool,
    on_progress: Progress | None,
    share: Share,
    meanwhile: Callable[[Batches], None] | None,
) -> Found:
    plain = {key: plain_loader(loader) for key, loader in loaders.items()}
    found = {key: _facts(key, loader, keys) for key, loader in plain.items()}
    works = [
        _work(key, loader, keys, full=full, seconds=seconds, by_chance=by_chance or _by_chance(loaders[key]),
              share=share, beside=_beside(key, plain))
        for key, loader in plain.items() if _forks(loader)
    ]  # fmt: skip
    until = None if full else (1 + _BUSY) * seconds + _GRACE
    takes = _taken(messages_of(works, until) if can_fork() and works else iter(()), found, on_progress)
    if meanwhile is None:
        for _ in takes:
            pass
    else:
        _take_beside(takes, found, meanwhile)
    return found


def _taken(messages: Iterator[Any], found: Found, on_progress: Progress | None) -> Iterator[None]:
    """Keep what children send, one message at a time."""
    totals: dict[str, int] = {}
    with suppress(OSError):  # no memory for another process
        for key, name, value in messages:
            _take(found[key], totals, key, name, value)
            if on_progress is not None and name == "samples" and totals:
                on_progress(sum(len(one["samples"]) for one in found.values()), sum(totals.values()))
            yield


def _take_beside(takes: Iterator[None], found: Found, meanwhile: Callable[[Batches], None]) -> None:
    """Take messages, from the first batches on in a thread, as ``meanwhile`` goes on here."""
    # Children are forked by the first one, before there is a thread.
    for _ in takes:
        if all(_first_batches(found).values()):
            break
    ended = Event()

    def take() -> None:
        for _ in takes:
            if ended.is_set():
                return

    thread = Thread(target=take, daemon=True)
    thread.start()
    try:
        meanwhile(_first_batches(found))
    except BaseException:
        ended.set()
        raise
    finally:
        thread.join()


def _first_batches(found: Found) -> Batches:
    return {key: one.get("first_batches", ()) for key, one in found.items()}


def _beside(key: str, loaders: Mapping[str, Any]) -> dict[str, Any]:
    """Return the loaders of the other kind: of training those for validation, and the other way round."""
    kind = {"train": "valid", "valid": "train"}.get(key[:5])
    return {} if kind is None else {other: loader for other, loader in loaders.items() if other.startswith(kind)}


def _facts(key: str, loader: Any, keys: Keys) -> dict[str, Any]:
    """Return what a loader tells without a look into its data set."""
    sampler = getattr(loader, "sampler", None)
    batch_sampler = getattr(loader, "batch_sampler", None)
    own = type(batch_sampler).__name__ if batch_sampler is not None else ""
    named = own if own != "BatchSampler" else type(sampler).__name__
    image, target = keys.image_key, keys.target_key
    return {
        "key": key,
        "trains": key.startswith("train"),
        "length": 0,
        "batch_size": _size(loader, batch_sampler),
        "sampler": named,
        "drop_last": bool(getattr(batch_sampler, "drop_last", False)),
        "workers": int(getattr(loader, "num_workers", 0) or 0),
        "image_key": None if image is None else str(image),
        "target_key": None if target is None else str(target),
        "samples": {},
        "again": {},
        "errors": {},
        "names": {},
        "batches_seen": (),
    }


def _size(loader: Any, batch_sampler: Any) -> int | None:
    size = getattr(loader, "batch_size", None)
    size = getattr(batch_sampler, "batch_size", None) if size is None else size
    return size if isinstance(size, int) else None


def _forks(loader: Any) -> bool:
    """Whether workers of a loader, where it has some, are forked as well."""
    context: Any = getattr(loader, "multiprocessing_context", None)
    method = context.get_start_method() if hasattr(context, "get_start_method") else context
    return not getattr(loader, "num_workers", 0) or method in (None, "fork")


def _by_chance(loader: Any) -> bool:
    """Whether a loader is one that this project's runner shares out, which seeds the generators for each item."""
    return hasattr(type(getattr(loader, "batch_sampler", None)), "draw_epoch")


def _take(found: dict[str, Any], totals: dict[str, int], key: str, name: str, value: Any) -> None:
    if name == "candidates":
        totals[key] = value
    elif name in _BY_PART:
        found[name] |= value
    elif name in _BY_ONE:
        found[name] = (*found.get(name, ()), value)
    else:
        found[name] = value


def _known(found: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a loader; where no sample could be read, without errors: it is not the samples' fault."""
    known = {one.name for one in fields(LoaderProbe)}
    names = found.get("names", {})
    ids = found.get("ids", ()) if found.get("held") else ()
    ids = ids or tuple(names[index] for index in sorted(names))
    found = found | {"samples": dict(sorted(found["samples"].items())), "ids": ids}
    found["again_small"] = _of_differing(found)
    found = {name: value for name, value in found.items() if name in known}
    return found if found["samples"] else found | {"errors": {}}


def _of_differing(found: Mapping[str, Any]) -> dict[int, Any]:
    """Return the small images of a second reading that differ from the first one, whichever rank has made that."""
    samples, again = found["samples"], found["again"]
    small = found.get("again_small", {})
    return {index: one for index, one in small.items() if index in samples and samples[index].digest != again[index]}


def _work(
    key: str,
    loader: Any,
    keys: Keys,
    *,
    full: bool,
    seconds: float,
    by_chance: bool,
    share: Share,
    beside: Mapping[str, Any],
) -> Callable[[Send], None]:
    """Return what reads a loader, within its child."""

    def work(send: Send) -> None:
        clock = OwnTime(0.0 if full else _BUSY * seconds)
        start = clock()

        def until(part: float) -> float:
            return float("inf") if full else start + part * seconds

        reader = LoaderReader(
            key,
            loader,
            keys,
            _tell(send, key),
            full=full,
            by_chance=by_chance,
            share=share,
            beside=beside,
            clock=clock,
        )
        reader.start()
        if share.leads:
            sends = _SENT[reader.trains]
            reader.read_batches(0, 1, until(_FIRST_BATCH), sends=sends)
            reader.read_samples(until(_SAMPLES))
            reader.read_again(until(_AGAIN))
            reader.read_left_out(until(_LEFT_OUT))
            reader.read_batches(1, 2, until(_MORE_BATCHES), sends=sends)
        # What the others have left of the time.
        reader.read_samples(until(_END))
        reader.finish()

    return work


def _tell(send: Send, key: str) -> Callable[[str, Any], None]:
    return lambda name, value: send((key, name, value))
