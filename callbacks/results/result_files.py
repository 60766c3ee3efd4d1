"""The folder of the results: what each epoch has drawn, and links to that of the last and of the best epoch."""

import itertools
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from ..support.atomic_files import half_written, link_whole, save_text, save_whole

LAST, BEST = "last", "best"
CURVES = "curves.png"
WORST = "worst.csv"

_EPOCHS = ".epochs"
_KEPT = 2  # newest epochs, as of checkpoints: a run may go on from the one before the last
# The overview is only a place in TensorBoard, and its number one to sort by.
_GROUP = re.compile(r"^(1_overview/|\d+_(?=\D))")
_LONGEST = 200  # bytes of a file name, without its ending


class ResultFiles:
    """The files of a folder of results. Its methods are called in the threads of the writers.

    Each epoch has a folder of its own, ``.epochs/0003``, with a folder per loader. It stays as long as the epoch is the
    best or one of the last two, so that ``last`` and ``best``, which are links to its files, can be made again at any
    checkpoint. What an epoch did not draw is taken over from the epoch before.

    Args:
        folder: reserved for this class.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def restore(self, epoch: int, best: int | None, *, begun: int) -> None:
        """Return to the state at the end of an epoch.

        Args:
            epoch: 0 is before the first.
            best: the best epoch until then; None: there is none.
            begun: the newest epoch of which files are kept. One that goes on within a checkpoint has drawn what its
                finished loaders show.
        """
        for folder in [path for path in self.folder.rglob("*") if path.is_dir()]:
            for left_by_a_kill in half_written(folder):
                left_by_a_kill.unlink()
        for number, path in self._epochs():
            if number > begun:
                shutil.rmtree(path)
        known = [number for number, _ in self._epochs() if number <= epoch]
        self._link(LAST, *known[-1:])
        self._link(BEST, *(number for number in known if number == best))
        self._link_table(best if best in known else max(known, default=None))

    def begin_loader(self, epoch: int, loader: str) -> None:
        """Remove what a loader has drawn before, in an epoch that is run again."""
        shutil.rmtree(self._of_epoch(epoch) / file_name(loader), ignore_errors=True)

    def path(self, epoch: int, loader: str, name: str) -> Path:
        """Return where to save a file of an epoch, in a folder that exists."""
        path = self._of_epoch(epoch) / file_name(loader) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def finish(self, epoch: int, best: int | None) -> None:
        """Show a finished epoch as the last one, and as the best one if it is.

        Args:
            epoch: of which every loader's files are saved.
            best: the best epoch so far; None: there is none.
        """
        of_epoch = self._of_epoch(epoch)
        for name, path in _files(self._of_epoch(epoch - 1)).items():
            if not (of_epoch / name).exists():
                (of_epoch / name).parent.mkdir(parents=True, exist_ok=True)
                link_whole(path, of_epoch / name)
        self._link(LAST, epoch)
        if best == epoch:
            self._link(BEST, epoch)
        self._link_table(epoch if best is None else best)
        # Last: a kill before leaves folders too many, and never takes files away.
        for number, path in self._epochs():
            if number <= epoch - _KEPT and number != best:
                shutil.rmtree(path)

    def break_off(self, epoch: int) -> None:
        """Show what an epoch has drawn that ends by an error, and of all else what the epoch before has.

        Args:
            epoch: of which some loaders' files are saved, or none.
        """
        if _files(self._of_epoch(epoch)):
            self._link(LAST, epoch - 1, epoch)

    def save_curves(self, content: bytes) -> None:
        """Save the sheet of all curves."""
        self.folder.mkdir(parents=True, exist_ok=True)
        save_whole(self.folder / CURVES, lambda file: file.write(content))

    def _of_epoch(self, epoch: int) -> Path:
        return self.folder / _EPOCHS / f"{epoch:04d}"

    def _epochs(self) -> list[tuple[int, Path]]:
        return sorted((int(path.name), path) for path in (self.folder / _EPOCHS).glob("[0-9]*"))

    def _link(self, name: str, *epochs: int) -> None:
        """Make a folder hold the files of epochs and no others; of equal names that of the later one."""
        folder, wanted = self.folder / name, {}
        for epoch in epochs:
            wanted.update(_files(self._of_epoch(epoch)))
        for relative, path in wanted.items():
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            link_whole(path, folder / relative)
        for relative, path in _files(folder).items():
            if relative not in wanted:
                path.unlink()
        if not wanted:
            shutil.rmtree(folder, ignore_errors=True)

    def _link_table(self, epoch: int | None) -> None:
        """Write the worst samples of all loaders of an epoch into one table."""
        tables = [] if epoch is None else sorted(self._of_epoch(epoch).glob(f"*/{WORST}"))
        if not tables:
            (self.folder / WORST).unlink(missing_ok=True)
            return
        header = _header(tables[0])
        rows = [path.read_text(encoding="utf-8").removeprefix(header) for path in tables]
        save_text(self.folder / WORST, header + "".join(rows))


def _header(table: Path) -> str:
    with open(table, encoding="utf-8", newline="") as file:
        return file.readline()


class PictureNames:
    """Gives each tag of a loader a file name of its own."""

    def __init__(self) -> None:
        self._tags: dict[str, str] = {}

    def name(self, tag: str) -> str:
        """Return the file name of a tag, without the number of its group if no other tag has that name.

        Example:
            >>> PictureNames().name("6_worst_samples/loss")
            'worst_samples_loss.png'
        """
        short, full = file_name(_GROUP.sub("", tag)), file_name(tag)
        names = itertools.chain((short, full), (f"{full}-{number}" for number in itertools.count(2)))
        return next(f"{name}.png" for name in names if self._tags.setdefault(name, tag) == tag)


def file_name(text: str) -> str:
    """Return a text as the name of a file or folder."""
    name = re.sub(r"[^\w.-]+", "_", text).strip("._")
    return name.encode()[:_LONGEST].decode(errors="ignore") or "_"


def _files(folder: Path) -> dict[str, Path]:
    """Return the complete files of a folder by their path within it."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path for path in found}


class Arrivals:
    """Calls a function in the thread that arrives last.

    Args:
        count: how many threads arrive.
        work: called once.
    """

    def __init__(self, count: int, work: Callable[[], None]):
        self._left, self._work = count, work
        self._lock = threading.Lock()

    def arrive(self) -> None:
        """Note that a thread is so far. None of them waits: where one has failed, the work is never done."""
        with self._lock:
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            self._work()
