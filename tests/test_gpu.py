"""What only a GPU can show: precisions, optimizers, Grad-CAM, resume, full memory, wrong targets, ranks.

``tests/test_gpu_numbers.py`` compares every number with the CPU, ``tests/test_gpu_waits.py`` and
``tests/test_cuda_syncs.py`` prove that no step waits.
"""

import csv
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import GradScalerKwargs
from gpu_runs import CRITERION, DEVICE, EPOCHS, LOSSES, cuda_only, needs_gpu, scalars, train, weights_of
from kit import fit
from PIL import Image
from test_host_reads import CLASSES, Classifier, Segmenter, classes, loaders, masks
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import (
    BestWorstSamples,
    GradCAM,
    GradientStats,
    NonFiniteGuard,
    OptimizerMonitor,
    classification_diagnostics,
)
from assay.runner import DictRunner, Engine, load_checkpoint
from assay.runner.commands.main import main
from assay.runner.saving.loggers import read_metrics

pytestmark = needs_gpu


@pytest.fixture(autouse=True)
def fresh_process():
    yield
    torch.use_deterministic_algorithms(False)


def make_classifier(channels_last):
    net = Classifier()
    return net.to(memory_format=torch.channels_last) if channels_last else net


class OneBuffer(DataLoader):
    """Puts each batch into the same memory on the device."""

    def __iter__(self):
        memory = {}
        for batch in super().__iter__():
            for name in ("image", "target"):
                memory.setdefault(name, torch.empty_like(batch[name], device=DEVICE)).copy_(batch[name])
            yield {**memory, "sample_id": batch["sample_id"]}


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(192, 3)

    def forward(self, image):
        return {"logits": self.head(image.flatten(1))}


def test_samples_of_a_loader_that_fills_one_tensor_of_the_device_again_are_those_that_their_ids_name(tmp_path):
    found = {}

    class Samples(BestWorstSamples):
        def show(self, runner, writer, ranking):
            found[runner.loader_key] = ranking

    batches = loaders(classes)["valid"]
    items = {item["sample_id"]: item for item in batches.dataset}
    given = OneBuffer(batches.dataset, batches.batch_size)
    torch.manual_seed(0)
    AcceleratorState._reset_state(True)
    fit(
        DictRunner(), Flat(), {"train": given, "valid": given}, [Samples()],
        engine=Engine(DEVICE), lr=0.0, logdir=str(tmp_path),
    )  # fmt: skip
    for ranking in found.values():
        for sample in [*ranking.best, *ranking.worst]:
            item = items[sample.sample_id]
            np.testing.assert_array_equal(sample.parts["image"], item["image"].numpy())
            assert sample.parts["target"] == item["target"]
    assert set(found) == {"train", "valid"}


PRECISIONS = ["fp32", "tf32", "bf16", pytest.param("fp16", marks=cuda_only)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_all_diagnostics_run_in_every_precision_and_layout(tmp_path, precision, channels_last):
    given = classification_diagnostics("full", class_names=CLASSES, gradients_every_n_steps=1)
    make = partial(make_classifier, channels_last)
    options = {"precision": precision, "lr": 0.01, "losses": LOSSES}
    runner = train(tmp_path, DEVICE, make, loaders(classes), CRITERION, given, **options)
    assert all(np.isfinite(value) for value in runner.history[EPOCHS]["valid"].values())
    assert list(tmp_path.glob("valid/events*"))


def train_scaled(folder, scale, *, lr):
    """Train in fp16 with this loss scale at the beginning; return the runner and {tag: values} of training."""
    make_engine = partial(Engine, kwargs_handlers=[GradScalerKwargs(init_scale=scale)])
    given = [OptimizerMonitor(), GradientStats(1, per_parameter=True), NonFiniteGuard("stop")]
    options = {"make_engine": make_engine, "precision": "fp16", "lr": lr, "losses": LOSSES}
    runner = train(folder, DEVICE, Classifier, loaders(classes), CRITERION, given, **options)
    return runner, {tag: values for (events, tag), values in scalars(folder).items() if events == "train"}


def of(points, name):
    """Return the values of the one tag with this name, whatever its group."""
    (values,) = [values for tag, values in points.items() if tag.rpartition("/")[2] == name]
    return values


@cuda_only
def test_fp16_skips_the_steps_that_overflow_lowers_its_scale_and_makes_the_others(tmp_path):
    runner, points = train_scaled(tmp_path, 2.0**26, lr=0.01)
    skipped, scale = sum(of(points, "skipped_steps")), runner.engine.scaler.get_scale()
    assert 0 < skipped < 20
    assert scale == 2.0**26 * 0.5**skipped == of(points, "loss_scale")[-1]
    assert all(torch.isfinite(value).all() for value in weights_of(runner).values())


@cuda_only
def test_the_gradients_of_scaled_steps_are_shown_unscaled(tmp_path):
    (_, scaled), (_, unscaled) = (train_scaled(tmp_path / f"{scale:g}", scale, lr=0.0) for scale in (1024.0, 1.0))
    tags = [tag for tag in unscaled if "norm" in tag]
    assert len(tags) > 4
    for tag in tags:
        assert scaled[tag] == pytest.approx(unscaled[tag], rel=0.05, abs=1e-3), tag


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_a_fused_optimizer_leaves_out_the_poisoned_step_alone(tmp_path, optimizer):
    """The run equals, bit by bit, the one in which the poisoned batch was never there."""

    def weights(folder, items):
        AcceleratorState._reset_state(True)
        torch.manual_seed(0)
        net = Segmenter(3)
        options = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
        runner = DictRunner()
        fit(
            runner, net, {"train": items}, [NonFiniteGuard("skip", folder=folder)], batch=4, engine=Engine(DEVICE),
            optimizer=optimizer(net.parameters(), lr=0.01, fused=True, **options), logdir=str(folder),
        )  # fmt: skip
        return weights_of(runner)

    noise = torch.Generator().manual_seed(1)
    items = [
        {"image": torch.randn(3, 8, 8, generator=noise), "target": masks(i, noise), "sample_id": i} for i in range(20)
    ]
    broken = [dict(item) for item in items]
    for item in broken[4:8]:
        item["image"] = torch.full((3, 8, 8), torch.nan)
    torch.use_deterministic_algorithms(DEVICE == "cpu")
    found = weights(tmp_path / "skipped", broken)
    expected = weights(tmp_path / "absent", items[:4] + items[8:])
    del found["layers.1.num_batches_tracked"], expected["layers.1.num_batches_tracked"]
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("precision", ["fp32", "bf16", pytest.param("fp16", marks=cuda_only)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_grad_cam_leaves_training_as_it_was_in_every_precision_and_layout(tmp_path, precision, channels_last):
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    states = []
    for name, given in (("with", [GradCAM(class_names=CLASSES)]), ("without", [])):
        options = {"precision": precision, "lr": 0.01, "losses": LOSSES}
        make = partial(make_classifier, channels_last)
        runner = train(tmp_path / name, DEVICE, make, loaders(classes), CRITERION, given, **options)
        states.append(weights_of(runner))
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    assert list(tmp_path.glob("with/valid/events*"))


def test_class_weights_meet_targets_on_the_device(tmp_path):
    losses = {}
    for device in ("cpu", DEVICE):
        criterion = {"class": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 5.0])), "size": nn.MSELoss()}
        folder = tmp_path / f"{len(losses)}"
        runner = train(folder, device, Classifier, loaders(classes), criterion, [], losses=LOSSES)
        losses[device] = runner.history[EPOCHS]["valid"]["loss_class"]
    assert losses[DEVICE] == pytest.approx(losses["cpu"], rel=1e-4)


def digits(run, *arguments):
    """Train digits a little; return the exit code."""
    AcceleratorState._reset_state(True)
    return main(["train", "digits", "--run-dir", str(run), "--device", DEVICE, "--limit-batches", "4", *arguments])


@pytest.mark.long("trains digits three times")
def test_a_deterministic_run_goes_on_bit_by_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--deterministic", "--diagnostics", "full", "--scheduler", "none"]
    assert digits("quiet", "--epochs", "2", *options) == 0
    assert digits("broken", "--epochs", "1", *options) == 0
    AcceleratorState._reset_state(True)
    assert main(["train", "digits", "--resume", "broken", "--epochs", "2", "--limit-batches", "4",
                 "--device", DEVICE, *options]) == 0  # fmt: skip
    first, second = (load_checkpoint(run + "/checkpoints/last.pt") for run in ("quiet", "broken"))
    for name, value in first["model"][""].items():
        assert torch.equal(value, second["model"][""][name]), name


@pytest.mark.long("trains, evaluates and predicts")
def test_a_run_of_the_gpu_is_evaluated_and_predicted_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert digits("run", "--epochs", "1") == 0
    AcceleratorState._reset_state(True)
    assert main(["evaluate", "run", "--checkpoint", "last", "--device", "cpu"]) == 0
    trained = read_metrics("run/metrics.csv")
    again = read_metrics("run/evaluate/valid-last/metrics.csv")
    wanted = {key: value for key, value in trained.items() if key[1] == "valid"}
    assert again == pytest.approx(wanted, rel=1e-3, abs=1e-4, nan_ok=True)
    Path("in").mkdir()
    for grey in (0, 100, 255):
        Image.fromarray(np.full((8, 8), grey, np.uint8)).save(f"in/{grey}.png")
    read = []
    for device in ("cpu", DEVICE):
        AcceleratorState._reset_state(True)
        assert main(["predict", "run", "--input", "in", "--output", f"out-{device}", "--device", device]) == 0
        with open(f"out-{device}/predictions.csv", newline="") as file:
            read.append([[_number(cell) for cell in row.values()] for row in csv.DictReader(file)])
    assert len(read[0]) == len(read[1]) == 3
    for found, expected in zip(read[1], read[0], strict=True):
        assert [cell for cell in found if isinstance(cell, str)] == [cell for cell in expected if isinstance(cell, str)]
        probabilities = [[cell for cell in row if isinstance(cell, float)] for row in (found, expected)]
        assert len(probabilities[0]) >= 10
        assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-3)


def _number(cell):
    try:
        return float(cell)
    except ValueError:
        return cell


@cuda_only
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_model_learns_as_one_that_is_not(tmp_path, monkeypatch, precision):
    monkeypatch.chdir(tmp_path)
    options = ["--epochs", "1", "--precision", precision, "--lr", "0.0001"]
    assert digits("eager", *options) == 0
    assert digits("compiled", "--compile", *options) == 0
    losses = [read_metrics(f"{run}/metrics.csv")[1, "valid", "loss"] for run in ("eager", "compiled")]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@cuda_only
def test_a_full_gpu_ends_the_run_with_one_line_and_keeps_the_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(GREEDY)
    assert main(["train", "./mine.py", "--run-dir", "run", "--device", DEVICE]) == 1
    error = capsys.readouterr().err.strip()
    assert "the GPU's memory ran out" in error
    assert "lower --batch-size" in error
    assert "Traceback" not in error
    assert torch.ones(3, device="cuda").sum().item() == 3
    assert load_checkpoint("run/checkpoints/last.pt")["model"][""]["layer.weight"].shape == (2, 4)
    assert read_metrics("run/metrics.csv").keys() >= {(1, "train", "loss"), (1, "valid", "loss")}


GREEDY = '''
"""Takes more memory than there is, in its second epoch."""
import torch
from torch import nn
from assay.runner import Experiment
from dataclasses import dataclass

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 2), 0

    def forward(self, image):
        self.calls += 1
        more = torch.empty(2**50, dtype=torch.uint8, device=image.device)[0] if self.calls > 4 else 0
        return {"logits": self.layer(image) + more}

@dataclass(kw_only=True)
class Greedy(Experiment):
    batch_size: int = 32
    check: str = "off"
    diagnostics: str = "off"

    def get_loaders(self):
        items = [{"image": torch.ones(4), "target": i % 2} for i in range(64)]
        return {"train": self.make_loader(items), "valid": self.make_loader(items)}

    def get_model(self):
        return Net()
'''


@pytest.mark.parametrize("wrong", [3, -1, 255])
def test_a_wrong_target_is_named_and_the_gpu_goes_on(tmp_path, wrong):
    items = [
        {"image": torch.randn(3, 8, 8), "target": torch.zeros(8, 8).long(), "sample_id": f"s{i}"} for i in range(8)
    ]
    items[5]["target"] = torch.full((8, 8), wrong)
    with pytest.raises(Exception, match="s5") as caught:
        train(tmp_path, DEVICE, lambda: Segmenter(3), {"train": DataLoader(items, 4)}, nn.CrossEntropyLoss(), [])
    assert "CUDA" not in str(caught.value)
    assert torch.ones(3, device=DEVICE).sum().item() == 3


RANKS = """
import os, sys
import torch.distributed as dist
backend, device = sys.argv[1:3]
rank = int(os.environ["RANK"])
if backend == "gloo":
    os.environ["LOCAL_RANK"] = "0"  # all on the one card
    dist.init_process_group("gloo")
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from gpu_runs import CRITERION, EPOCHS, LOSSES, train
from test_host_reads import CLASSES, Classifier, classes, loaders
from assay.callbacks import classification_diagnostics
given = classification_diagnostics("full", class_names=CLASSES, gradients_every_n_steps=1)
runner = train(Path(sys.argv[4]), device, Classifier, loaders(classes), CRITERION, given, lr=0.01, losses=LOSSES)
assert dist.get_backend() == backend, dist.get_backend()
# A file for each, as the lines of ranks mix in the one output of torchrun.
Path(f"loss-{rank}.txt").write_text(repr(float(runner.history[EPOCHS]["train"]["loss"])))
"""


@pytest.mark.long("starts torchrun")
@pytest.mark.parametrize(("backend", "ranks"), [("gloo", 1), ("gloo", 2), pytest.param("nccl", 1, marks=cuda_only)])
def test_processes_on_one_card_agree_with_one_process(tmp_path, backend, ranks):
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    runner = train(
        tmp_path / "alone", DEVICE, Classifier, loaders(classes), CRITERION, [], lr=0.01, losses=LOSSES,
        accumulate_steps=ranks,
    )  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(ranks),
        str(script),
    ]
    given = [backend, DEVICE, str(Path(__file__).parent), str(tmp_path / "together")]
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([*command, *given], capture_output=True, text=True, env=environment, timeout=200, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr[-3000:]
    losses = [float((tmp_path / f"loss-{rank}.txt").read_text()) for rank in range(ranks)]
    assert losses == [pytest.approx(runner.history[EPOCHS]["train"]["loss"], rel=1e-3)] * ranks
