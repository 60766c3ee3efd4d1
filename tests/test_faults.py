"""What fails outside the program ends a run as promised: one line that says what to do, and nothing lost or hung."""

import gc
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from catalyst import dl
from forked import command
from kit import fit
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from assay.callbacks import TimeMonitor
from assay.callbacks.tensorboard.writer import Writer
from assay.runner.commands.main import main
from assay.runner.saving.checkpoint_files import load_checkpoint
from assay.runner.saving.loggers import read_metrics

MINE = '''"""An experiment on image files, in which something goes wrong."""

import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import albumentations as A
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from catalyst import dl
from torch import nn
from torch.utils.data import get_worker_info

from assay.callbacks.tensorboard.find_writer import find_writer
from assay.runner import Augmented, Experiment
from assay.runner.data.augmented import Items


class Net(nn.Module):
    """Fails in the second batch of the first epoch's validation when it is told to."""

    def __init__(self, fails):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))
        self.fails = fails
        self.calls = 0

    def forward(self, image):
        self.calls += 1
        if self.fails and self.calls == 1 + 6 + 2:  # one before the first epoch, and all of training
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB.")
        return {"logits": self.layers(image)}


class Pictures(dl.Callback):
    """Writes noise, which no compression makes small, and makes the folder fail in epoch 2."""

    def __init__(self, fault):
        super().__init__(order=dl.CallbackOrder.External)
        self.fault = fault

    def on_epoch_start(self, runner):
        if runner.epoch_step == 2 and self.fault == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        folder = next(iter(runner.loggers.values())).folder / "train"
        if runner.epoch_step == 2 and self.fault == "read-only":
            subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        if runner.epoch_step == 2 and self.fault == "removed":
            shutil.rmtree(folder)
        if runner.epoch_step == 2 and self.fault == "full":
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)

    def on_batch_end(self, runner):
        picture = np.random.default_rng(runner.batch_step).integers(0, 256, (100, 100, 3), dtype=np.uint8)
        find_writer(runner, runner.loader_key, "Pictures").image("noise", lambda: picture, runner.batch_step)


@dataclass(kw_only=True)
class Mine(Experiment):
    epochs: int = 2
    check: str = "off"
    batch_size: int = 4
    device: str = "cpu"
    non_finite: str = "off"
    fault: str = ""
    """What goes wrong."""

    def get_loaders(self):
        paths = sorted(Path(self.data_dir).glob("*"))
        items = [{"image": path, "target": i % 3, "sample_id": path.stem} for i, path in enumerate(paths)]
        to_tensor = A.Compose([A.ToFloat(), ToTensorV2()])
        data = Augmented(Items(len(items), lambda index: self.make(items, index)), to_tensor, seed=self.seed)
        return {"train": self.make_loader(data, shuffle=True), "valid": self.make_loader(data)}

    def make(self, items, index):
        if self.fault == "killed" and index == 7 and get_worker_info():
            os.kill(os.getpid(), 9)
        return items[index]

    def get_model(self):
        return Net(self.fault == "memory")

    def get_callbacks(self):
        return [Pictures(self.fault)] if self.fault in ("limit", "read-only", "full", "removed") else []
'''


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "mine.py").write_text(MINE)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path):
    """Return a function that writes 22 image files, some of them cut short, and returns their folder."""

    def write(*bad, count=22):
        folder = tmp_path / "images"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for i in range(count):
            encoded = cv2.imencode(".jpg", rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))[1].tobytes()
            (folder / f"sample-{i:02}.jpg").write_bytes(encoded[:-40] if i in bad else encoded)
        return folder

    return write


@pytest.fixture
def train(capfd):
    """Return a function that runs ``assay train`` in this process; it returns exit code, output and errors by line."""

    def run(folder, *arguments):
        capfd.readouterr()
        given = ["train", "mine.py", "--data-dir", folder, "--run-dir", "run", "--threads", "1", *arguments]
        code = main([str(argument) for argument in given])
        printed = capfd.readouterr()
        if "--workers" in arguments:
            end_workers()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


def end_workers():
    """End the workers of this process, which torch waits 5 s for, each, when the loader is garbage."""
    for thing in gc.get_objects():
        if type(thing) is _MultiProcessingDataLoaderIter:
            thing._shutdown_workers()


# -- bad images -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_jpeg_ends_a_run_by_one_line_with_file_and_sample_id(data, train, workers):
    folder = data(9)
    code, _, errors = train(folder, "--workers", workers)
    assert code == 1
    assert len(errors) == 1, errors
    assert errors[0].startswith(
        f"assay: error: sample_id 'sample-09': image '{folder}/sample-09.jpg' cannot be read: image file is truncated"
    )
    assert errors[0].endswith(" bytes. --on-bad-image skip leaves such samples out.")
    assert Path("run/config.yaml").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_left_out_counted_and_listed_by_option(data, train, workers):
    folder = data(0, 9, 21)
    code, output, errors = train(folder, "--on-bad-image", "skip", "--workers", workers)
    assert (code, errors) == (0, [])
    first = output.index("bad images left out: train 3, valid 3; all are listed in run/bad_images.txt")
    listed = Path("run/bad_images.txt").read_text().splitlines()
    expected = [(loader, i) for loader in ("train", "valid") for i in (0, 9, 21)]
    for line, (loader, i) in zip(listed, expected, strict=True):
        name = f"sample-{i:02}"
        assert line.startswith(
            f"{loader}: sample_id '{name}': image '{folder}/{name}.jpg' cannot be read: image file is truncated"
        )
    assert output[first + 1 : first + 7] == [*(f"  {line}" for line in listed[:5]), "  ..."]
    assert output[first + 7] == "run folder: run"


def test_metrics_of_a_run_that_skips_are_those_of_the_good_images_alone(data, train):
    folder = data(0, 9, 20, 21)  # the last batch of valid has none left
    frozen = ("--on-bad-image", "skip", "--optimizer", "SGD", "--lr", "1e-30", "--epochs", "1")
    assert train(folder, *frozen)[0] == 0
    skipped = read_metrics("run/metrics.csv")
    weights = load_checkpoint("run")["model"][""]
    losses = []
    for i in sorted(set(range(22)) - {0, 9, 20, 21}):
        image = cv2.imread(str(folder / f"sample-{i:02}.jpg"))[..., ::-1].astype(np.float64) / 255
        logits = weights["layers.1.weight"].double() @ torch.from_numpy(image.transpose(2, 0, 1).reshape(-1).copy())
        logits += weights["layers.1.bias"].double()
        losses.append(float(torch.logsumexp(logits, 0) - logits[i % 3]))
    for loader in ("train", "valid"):
        assert skipped[1, loader, "loss"] == pytest.approx(np.mean(losses), abs=1e-5)


def test_a_run_without_bad_images_is_the_same_with_skip(data, train):
    folder = data()
    assert train(folder)[0] == 0
    plain, weights = read_metrics("run/metrics.csv"), load_checkpoint("run")["model"][""]
    os.rename("run", "plain")
    code, output, _ = train(folder, "--on-bad-image", "skip")
    assert code == 0
    assert read_metrics("run/metrics.csv") == plain
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_checkpoint("run")["model"][""].items())
    assert not Path("run/bad_images.txt").exists()
    assert not [line for line in output if "bad images" in line]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_set_without_a_good_image_ends_the_run_in_one_line(data, train, workers):
    folder = data(*range(6), count=6)
    code, _, errors = train(folder, "--on-bad-image", "skip", "--workers", workers)
    assert code == 1
    assert len(errors) == 1, errors
    assert errors[0].startswith("assay: error: none of the data set's 6 samples can be read; the last one: sample")
    assert "--on-bad-image" not in errors[0]


def test_a_resumed_run_still_lists_what_was_bad_before(data, train):
    folder = data(9)
    assert train(folder, "--on-bad-image", "skip", "--epochs", "1")[0] == 0
    before = Path("run/bad_images.txt").read_text()
    (folder / "sample-09.jpg").write_bytes((folder / "sample-08.jpg").read_bytes())
    code = main(["train", "mine.py", "--resume", "run", "--epochs", "2"])
    assert code == 0
    assert Path("run/bad_images.txt").read_text() == before


# -- processes and memory -------------------------------------------------------------------------------------------


def test_a_killed_worker_ends_a_run_by_one_line_that_says_what_to_lower(data, train):
    code, _, errors = train(data(), "--workers", "2", "--fault", "killed")
    assert code == 1
    assert len(errors) == 1, errors
    assert errors[0].startswith("assay: error: loader worker ")
    assert " was killed (Killed) in epoch 1, loader 'train', " in errors[0]
    assert errors[0].endswith("through which workers pass batches on: lower --workers or --batch-size.")


def test_a_full_gpu_ends_a_run_by_one_line_that_says_what_to_lower_and_where_it_was(data, train):
    code, _, errors = train(data(), "--fault", "memory")
    assert code == 1
    assert errors == [
        "assay: error: the GPU's memory ran out in epoch 1, loader 'valid', batch 2 of 6: lower --batch-size, and "
        "raise --accumulate-steps by the same factor to train alike; --precision bf16 needs less memory as well. "
        "(CUDA out of memory.)"
    ]


# -- event files ----------------------------------------------------------------------------------------------------


def check_event_fault(code, errors, reason):
    assert code == 1
    assert len(errors) == 1, errors
    assert errors[0].startswith("assay: error: ")
    assert "run/train" in errors[0]
    assert " cannot be written in epoch 2, loader '" in errors[0]  # of the next call after it, whichever loader's
    assert errors[0].endswith(f": {reason}. --resume continues the run.")
    assert load_checkpoint("run")["epoch"] == 1
    # The thread that writes may notice it as late as at the end of the epoch, whose metrics are written by then.
    of_second = {(2, "train"), (2, "valid")}
    assert {key[:2] for key in read_metrics("run/metrics.csv")} - of_second == {(1, "train"), (1, "valid")}


def test_an_event_file_that_cannot_grow_ends_a_run_without_a_hang(data):
    arguments = ["train", "mine.py", "--data-dir", data(), "--run-dir", "run", "--fault", "limit", "--threads", "1"]
    done = command(*arguments).result(timeout=180)
    check_event_fault(done.returncode, done.stderr.splitlines(), "File too large")


def test_an_event_folder_that_is_removed_ends_a_run(data, train):
    code, _, errors = train(data(), "--fault", "removed")
    check_event_fault(code, errors, "No such file or directory")


@pytest.fixture
def mounted():
    """Skip where nothing can be mounted, and unmount what the run has mounted."""
    folder = Path("run/train")
    folder.mkdir(parents=True)
    tried = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True)
    if tried.returncode:
        pytest.skip("mounting is not allowed here")
    subprocess.run(["umount", str(folder)], check=True)
    shutil.rmtree("run")
    yield
    subprocess.run(["umount", str(folder)], capture_output=True)


@pytest.mark.parametrize(
    ("fault", "reason"), [("read-only", "Read-only file system"), ("full", "No space left on device")]
)
def test_an_event_folder_that_takes_no_more_writes_ends_a_run(data, train, mounted, fault, reason):
    code, _, errors = train(data(), "--fault", fault)
    check_event_fault(code, errors, reason)


# -- a full queue of pictures ---------------------------------------------------------------------------------------


class SlowSink:
    """Takes a while for each picture, and keeps the tags and steps."""

    def __init__(self):
        self.written = []

    def add_summary(self, summary, step=None):
        time.sleep(0.005)
        self.written.append(step)

    def add_scalar(self, tag, value, step=None): ...
    def flush(self): ...
    def close(self): ...


def test_a_slow_disk_loses_no_picture_and_holds_no_more_than_the_queue():
    sink, alive, most = SlowSink(), set(), 0

    class Picture:
        def __init__(self, step):
            self.step = step
            alive.add(step)

        def draw(self):
            return np.zeros((4, 4, 3), np.uint8)

        def __del__(self):
            alive.discard(self.step)

    writer = Writer(sink, queue_size=4)
    for step in range(60):
        writer.image("picture", Picture(step).draw, step)
        most = max(most, len(alive))
    writer.close()
    assert sink.written == list(range(60))
    assert most <= 4 + 2  # one that is being written, and one that its future is about to let go


def test_the_wait_for_a_full_queue_is_visible_as_time_of_the_diagnostics(tmp_path, train_toy):
    seconds = train_toy(pause_s=0.02, queue_size=1)
    assert seconds == pytest.approx(20, rel=0.4)
    assert train_toy(pause_s=0.0, queue_size=1) < 5


@pytest.fixture
def train_toy(tmp_path):
    """Return a function that trains with a picture a batch and a slow writer, and returns the time in ms."""
    from assay.runner import DictRunner

    class Pictures(dl.Callback):
        def __init__(self, pause_s, queue_size):
            super().__init__(order=dl.CallbackOrder.External)
            self.writer = Writer(SlowSink(), queue_size=queue_size)
            self.pause_s = pause_s

        def on_batch_end(self, runner):
            self.writer.submit(lambda sink: time.sleep(self.pause_s))

        def on_experiment_end(self, runner):
            self.writer.close()

    class Toy(torch.nn.Linear):
        def forward(self, image):
            return {"logits": super().forward(image)}

    def run(pause_s, queue_size):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        folder = tmp_path / f"pause-{pause_s}"
        model = Toy(4, 3)
        items = [{"image": torch.randn(4), "target": i % 3} for i in range(40)]
        fit(
            DictRunner(), model, {"train": torch.utils.data.DataLoader(items, batch_size=1)},
            [TimeMonitor(), Pictures(pause_s, queue_size)], logdir=str(folder),
        )  # fmt: skip
        events = EventAccumulator(str(folder / "train")).Reload()
        return events.Scalars("9_time/diagnostics")[0].value

    return run
