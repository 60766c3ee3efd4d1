"""Numbers and texts of TensorBoard's event files, read without their pictures."""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event

from ..numbers import json_number

_LARGEST = 1 << 16  # bytes of a record with numbers; larger ones hold pictures and are skipped
_BEGINNING = 512  # bytes of a record in which its tag is
_OF_TEXTS = "/text_summary"  # which TensorBoard adds to their tags
_NOT_OF_TRAINING = ("evaluate", "checkpoints", "samples", "results")


@dataclass
class Series:
    """The values of a tag over steps, in the order of the steps.

    Attributes:
        loader: name of the event folder.
        name: the tag.
        values: by step; the last one that was written counts, as a run that goes on writes steps again.
    """

    loader: str
    name: str
    values: dict[int, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it with a list of steps and one of values, of which those that are not finite are texts."""
        steps = sorted(self.values)
        values = [json_number(self.values[step]) for step in steps]
        return {"loader": self.loader, "name": self.name, "steps": steps, "values": values}


def read_scalars(run: Path, wanted: Callable[[str], bool]) -> list[Series]:
    """Return the scalars of a run folder, without those of evaluations.

    Args:
        run: the run folder.
        wanted: whether a tag is.
    """
    found: dict[tuple[str, str], Series] = {}
    for loader, path in _event_files(run):
        for tag, step, value in _scalars(path):
            if wanted(tag):
                found.setdefault((loader, tag), Series(loader, tag)).values[step] = value
    return list(found.values())


def read_texts(run: Path, tags: Sequence[str]) -> dict[tuple[str, str], tuple[int, str]]:
    """Return the last step and text of each tag that is one of some tags, or begins with one and a slash.

    Args:
        run: the run folder.
        tags: as the writer was given them.

    Returns:
        By event folder and tag.
    """
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for loader, path in _event_files(run):
        with open(path, "rb") as file:
            for event in _events(_records(file, [tag.encode() for tag in tags])):
                for value in event.summary.value:
                    tag = value.tag.removesuffix(_OF_TEXTS)
                    is_wanted = any(tag == one or tag.startswith(f"{one}/") for one in tags)
                    if is_wanted and value.metadata.plugin_data.plugin_name == "text" and value.tensor.string_val:
                        found[loader, tag] = event.step, value.tensor.string_val[0].decode("utf-8", "replace")
    return found


def _event_files(run: Path) -> Iterator[tuple[str, Path]]:
    """Yield the event files of training, in their order, with the name of their folder."""
    for path in sorted(run.rglob("events.out.tfevents.*")):
        parts = path.relative_to(run).parts
        if parts[0] not in _NOT_OF_TRAINING:
            yield "/".join(parts[:-1]), path


def _events(records: Iterator[bytes]) -> Iterator[Event]:
    for record in records:
        try:
            yield Event.FromString(record)
        except DecodeError:  # the rest of a damaged file is unknown
            return


def _scalars(path: Path) -> Iterator[tuple[str, int, float]]:
    with open(path, "rb") as file:
        for event in _events(_records(file)):
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    yield value.tag, event.step, value.simple_value
                elif value.metadata.plugin_data.plugin_name == "scalars" and value.tensor.float_val:
                    yield value.tag, event.step, value.tensor.float_val[0]


def _records(file: BinaryIO, wanted: Sequence[bytes] = ()) -> Iterator[bytes]:
    """Yield the records of an event file: length, its checksum, data and its checksum; until it breaks off.

    Large ones are skipped, but for those that begin with what is wanted.
    """
    while len(header := file.read(12)) == 12:
        (length,) = struct.unpack("<Q", header[:8])
        if length > _LARGEST:
            begin = file.read(_BEGINNING)
            if not any(one in begin for one in wanted):
                file.seek(length + 4 - len(begin), 1)
                continue
            data = begin + file.read(length - len(begin))
        else:
            data = file.read(length)
        if len(data) < length or len(file.read(4)) < 4:
            return
        yield data
