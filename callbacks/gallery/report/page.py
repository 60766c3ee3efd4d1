"""Writes the report of one or several runs, and keeps it within its size."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ...support.atomic_files import save_text
from ..inline import inlined_page
from .class_reports import without_repeated
from .run_files import Metrics, RunFiles, is_run, read_run
from .sections import Known, sections_of

if TYPE_CHECKING:
    from .embedded import Embedded

LARGEST = 10_000_000  # bytes of a page
REPORT = "report.html"
_SHARES = {"figures": 0.17, "thumbnails": 0.25, "tables": 0.26, "epochs": 0.17, "curves": 0.08}  # of the page
_TRIES = 6


def write_report(
    runs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    settings: Mapping[str, Any] | None = None,
    metrics: Metrics | None = None,
    largest: int = LARGEST,
) -> int:
    """Write the report of runs as one HTML page, whole or not at all.

    Args:
        runs: run folders; several are shown side by side, the first compared with each other one.
        output: the file.
        settings: of the run, where it has no ``config.yaml``.
        metrics: of the run, where it has no ``metrics.csv``.
        largest: bytes that the page may have.

    Returns:
        Its size in bytes.

    Raises:
        UsageError: a folder is no run, or even without pictures and samples the page is too large.
        OSError: the file, which the error names, cannot be written.
    """
    page = report_page([Path(run) for run in runs], largest, Known(settings or {}, metrics or {}))
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_text(path, page)
    return len(page)


def report_page(folders: Sequence[Path], largest: int = LARGEST, known: Known | None = None) -> str:
    """Return the report of runs as one HTML page in ASCII; see ``write_report``.

    Args:
        folders: of the runs.
        largest: bytes that the page may have.
        known: of the run, where its files do not say it.
    """
    known = known or Known()
    _check_runs(folders, known)
    files = [read_run(folder) for folder in folders]

    def make(budget: Mapping[str, int]) -> str:
        data = report_data(files, known, budget)
        return inlined_page(f"report of {_names(data)}", "report.js", data)

    return _within(make, folders, largest)


def samples_page(folders: Sequence[Path], largest: int = LARGEST) -> str:
    """Return the gallery of the samples of runs alone as one HTML page in ASCII.

    Args:
        folders: of the runs.
        largest: bytes that the page may have.

    Raises:
        UsageError: a folder is no run, or no run has samples that can be read; pyarrow is not installed.
    """
    _check_runs(folders, Known())
    if find_spec("pyarrow") is None:
        raise UsageError("samples are read by pyarrow: install it, as by pip install 'catalyst-assay[samples]'.")
    from .embedded import embed_samples, open_samples  # 50 MB, which not every project has

    opened = [open_samples(folder, name) for folder, name in zip(folders, run_names(folders), strict=True)]

    def make(budget: Mapping[str, int]) -> str:
        found = [embed_samples(samples, budget) for samples in opened]
        if not any(one.loaders for one in found):
            why = next((note for one in found for note in one.notes), "SampleHistory writes them")
            raise UsageError(f"{', '.join(map(str, folders))} has no samples to show: {why.rstrip('.')}.")
        runs = [{"run": samples.name, "loaders": one.loaders} for samples, one in zip(opened, found, strict=True)]
        data = {"runs": runs}
        return inlined_page(f"samples of {_names(data)}", "local.js", data, function="mountLocal")

    return _within(make, folders, largest)


def _check_runs(folders: Sequence[Path], known: Known) -> None:
    for folder in folders:
        if not folder.is_dir() or not (known.metrics or is_run(folder)):
            why = "it holds no metrics, events or samples" if folder.is_dir() else "there is no such folder"
            raise UsageError(f"{folder} is not a run folder: {why}.")


def _within(make: Callable[[Mapping[str, int]], str], folders: Sequence[Path], largest: int) -> str:
    """Return a page that is small enough, with as much of the samples and pictures as fits."""
    room = largest * 0.95 / len(folders)
    for _ in range(_TRIES):
        page = make({name: int(share * room) for name, share in _SHARES.items()})
        if len(page) < largest:
            return page
        room *= 0.6
    raise UsageError(f"a page of {len(folders)} runs would have more than {largest / 1e6:g} MB: name fewer runs.")


def report_data(files: Sequence[RunFiles], known: Known, budget: Mapping[str, int]) -> dict[str, Any]:
    """Return what the page shows.

    Args:
        files: of the runs.
        known: of the run, where its files do not say it.
        budget: bytes per run for ``figures``, ``thumbnails``, ``tables`` of samples, their earlier ``epochs`` and their
            ``curves``.
    """
    names = run_names([run.folder for run in files])
    samples, pairs, fault = _samples_of([run.folder for run in files], names, budget)
    runs = []
    for name, run, found in zip(names, files, samples, strict=True):
        # Pictures of results may take what the samples leave.
        left = budget["figures"] if found is None else sum(budget.values()) - found.size
        sections = sections_of(run, left, known)
        sections["notes"] += [fault] if fault else []
        if found is not None:
            sections |= {"classes": found.classes, "ranked": found.ranked}
            counted = [one["loader"] for one in found.classes]
            sections["class_reports"] = without_repeated(sections["class_reports"], counted)
            sections["summary"]["loaders"] = found.counts
            sections["notes"] += found.notes
        runs.append({"run": name, "sections": sections, "loaders": [] if found is None else found.loaders})
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"made": made, "runs": runs, "compare": None, "comparison": pairs}


def _samples_of(
    folders: Sequence[Path], names: Sequence[str], budget: Mapping[str, int]
) -> tuple[Sequence["Embedded | None"], list[dict[str, Any]], str]:
    """Return the samples of each run, what became of them from the first run to the others, and why not."""
    none = [None] * len(folders)
    if not any((folder / "samples").is_dir() for folder in folders):
        return none, [], ""
    if find_spec("pyarrow") is None:
        return none, [], "The samples are left out, as pyarrow is not installed."
    from .comparison import compare_runs, named_in  # 50 MB, which not every project has
    from .embedded import embed_samples, open_samples

    opened = [open_samples(folder, name) for folder, name in zip(folders, names, strict=True)]
    pairs, fault = [], ""
    try:
        pairs = [pair for other in opened[1:] for pair in compare_runs(opened[0], other)]
    except UsageError as error:
        fault = f"The samples of the runs are not compared: {error}"
    return [embed_samples(one, budget, named_in(pairs, one.name)) for one in opened], pairs, fault


def run_names(folders: Sequence[Path]) -> list[str]:
    """Return a name for each run folder: the end of its path, with as many folders as tell them apart, at least two."""
    parts = [folder.resolve().parts for folder in folders]
    longest = max(map(len, parts))
    for count in range(2, longest + 1):
        names = ["/".join(part[-count:]).lstrip("/") for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, start=1)]


def _names(data: Mapping[str, Any]) -> str:
    return ", ".join(run["run"] for run in data["runs"])
