"""What only a GPU can show, each beside the same on the CPU.

``GPU_TESTS_DEVICE=cpu`` runs most of them on a machine without one, so that a mistake here is found there.
"""

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
from kit import fit, read_events
from PIL import Image
from test_fake_cuda import EXPORTED, OPTIONS
from test_host_reads import (
    CLASSES,
    Classifier,
    Detector,
    Segmenter,
    box_loss,
    boxes,
    classes,
    loaders,
    masks,
    stack_but_boxes,
)
from torch import nn
from torch.utils.data import DataLoader

from assay import callbacks
from assay.callbacks import (
    GradCAM,
    NonFiniteGuard,
    OptimizerMonitor,
    classification_diagnostics,
    detection_diagnostics,
    segmentation_diagnostics,
)
from assay.runner import DictRunner, Engine, LossTerm, load_checkpoint
from assay.runner.commands.main import main
from assay.runner.saving.loggers import read_metrics

DEVICE = os.environ.get("GPU_TESTS_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a GPU: torch finds none on this machine"
    ),
    # Inductor's, and those of torch about kernels that it looks for on a GPU.
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
cuda_only = pytest.mark.skipif(DEVICE != "cuda", reason="a CPU has none of it")
# Times and memory differ from machine to machine.
MACHINES_OWN = ("time/", "memory", "throughput", "overhead/", "samples_per_second")


@pytest.fixture(autouse=True)
def fresh_process():
    yield
    torch.use_deterministic_algorithms(False)


def train(folder, device, model, batches, criterion, given, *, precision="fp32", lr=0.0, make_engine=Engine, **options):
    """Train for two epochs; without a learning rate, rounding does not add up from step to step."""
    AcceleratorState._reset_state(True)
    torch.manual_seed(0)
    net = model()
    runner = DictRunner(**options)
    return fit(
        runner, net, batches, {str(i): callback for i, callback in enumerate(given)},
        engine=make_engine(device, precision), optimizer=torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9),
        criterion=criterion, epochs=2, hparams={"lr": lr}, logdir=str(folder),
    )  # fmt: skip


def scalars(folder):
    """Return {(event folder, tag): values} of a run."""
    found = {}
    for events in sorted((folder / "tensorboard").iterdir()):
        log = read_events(events)
        for tag in log.Tags()["scalars"]:
            if not any(part in tag for part in MACHINES_OWN):
                found[events.name, tag] = [point.value for point in log.Scalars(tag)]
    return found


def assert_same_numbers(tmp_path, run):
    runs = {}
    for name, device in (("cpu", "cpu"), ("device", DEVICE)):
        runner = run(tmp_path / name, device)
        runs[name] = runner.history, scalars(tmp_path / name)
    (history, points), (expected_history, expected) = runs["device"], runs["cpu"]
    assert history.keys() == expected_history.keys()
    for epoch, by_loader in expected_history.items():
        for loader, metrics in by_loader.items():
            assert history[epoch][loader] == pytest.approx(metrics, rel=1e-3, abs=1e-4, nan_ok=True)
    assert points.keys() == expected.keys()
    for tag, values in expected.items():
        assert points[tag] == pytest.approx(values, rel=2e-3, abs=1e-4, nan_ok=True), tag


CRITERION = {"class": nn.CrossEntropyLoss(), "size": nn.MSELoss()}
LOSSES = [
    LossTerm("logits", "target", criterion="class"),
    LossTerm("size", "true_size", criterion="size", weight=0.5),
]


@pytest.mark.parametrize("name", EXPORTED)
def test_every_callback_gives_the_numbers_of_the_cpu(tmp_path, name):
    kind = getattr(callbacks, name)
    takes_names = "class_names" in kind.__init__.__code__.co_varnames
    given = ({"class_names": CLASSES} if takes_names else {}) | OPTIONS.get(name, {})

    def run(folder, device):
        return train(
            folder, device, Classifier, loaders(classes), CRITERION, [kind(**given)],
            losses=LOSSES, accumulate_steps=2, clip_grad_norm=1.0,
        )  # fmt: skip

    assert_same_numbers(tmp_path, run)


def binary_loss(output, target):
    return nn.functional.binary_cross_entropy_with_logits(output[:, 0], (target == 1).float())


def classifier_task():
    return Classifier, loaders(classes), CRITERION, classification_diagnostics("full", class_names=CLASSES), LOSSES


def mask_task():
    given = segmentation_diagnostics("full", class_names=CLASSES, k_samples=4)
    return (lambda: Segmenter(3)), loaders(masks), nn.CrossEntropyLoss(), given, None


def binary_mask_task():
    given = segmentation_diagnostics("full", task="binary", class_names=["no", "yes"], ignore_index=2, k_samples=4)
    return (lambda: Segmenter(1)), loaders(masks), binary_loss, given, None


def box_task():
    given = detection_diagnostics("full", class_names=["none", "cat"])
    return Detector, loaders(boxes, collate_fn=stack_but_boxes), box_loss, given, None


@pytest.mark.parametrize("task", [classifier_task, mask_task, binary_mask_task, box_task])
def test_the_diagnostics_of_every_task_give_the_numbers_of_the_cpu(tmp_path, task):
    def run(folder, device):
        model, batches, criterion, given, losses = task()
        options = {} if losses is None else {"losses": losses}
        return train(folder, device, model, batches, criterion, given, **options)

    assert_same_numbers(tmp_path, run)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", pytest.param("fp16", marks=cuda_only)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_all_diagnostics_run_in_every_precision_and_layout(tmp_path, precision, channels_last):
    def model():
        net = Classifier()
        return net.to(memory_format=torch.channels_last) if channels_last else net

    given = classification_diagnostics("full", class_names=CLASSES, gradients_every_n_steps=1)
    runner = train(
        tmp_path, DEVICE, model, loaders(classes), CRITERION, given, precision=precision, lr=0.01, losses=LOSSES
    )
    assert all(np.isfinite(value) for value in runner.history[2]["valid"].values())
    assert list(tmp_path.glob("tensorboard/valid/events*"))


@cuda_only
def test_fp16_skips_the_steps_that_overflow_and_lowers_its_scale(tmp_path):
    make_engine = partial(Engine, kwargs_handlers=[GradScalerKwargs(init_scale=2.0**60)])
    given = [OptimizerMonitor(), NonFiniteGuard("stop")]
    runner = train(
        tmp_path,
        "cuda",
        Classifier,
        loaders(classes),
        CRITERION,
        given,
        make_engine=make_engine,
        precision="fp16",
        lr=0.01,
        losses=LOSSES,
    )
    assert runner.engine.scaler.get_scale() < 2.0**60
    assert all(torch.isfinite(value).all() for value in runner.engine.unwrap_model(runner.model).state_dict().values())
    scales = read_events(tmp_path / "tensorboard" / "train").Scalars("optimizer/loss_scale")
    assert scales[-1].value == runner.engine.scaler.get_scale()


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
        return {name: value.cpu() for name, value in runner.engine.unwrap_model(runner.model).state_dict().items()}

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


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_grad_cam_leaves_training_as_it_was_under_half_precision(tmp_path, precision):
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    states = []
    for name, given in (("with", [GradCAM(class_names=CLASSES)]), ("without", [])):
        runner = train(
            tmp_path / name, DEVICE, Classifier, loaders(classes), CRITERION, given,
            precision=precision, lr=0.01, losses=LOSSES,
        )  # fmt: skip
        states.append(runner.engine.unwrap_model(runner.model).state_dict())
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())


def test_class_weights_meet_targets_on_the_device(tmp_path):
    losses = {}
    for device in ("cpu", DEVICE):
        criterion = {"class": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 5.0])), "size": nn.MSELoss()}
        folder = tmp_path / f"{len(losses)}"
        runner = train(folder, device, Classifier, loaders(classes), criterion, [], losses=LOSSES)
        losses[device] = runner.history[2]["valid"]["loss_class"]
    assert losses[DEVICE] == pytest.approx(losses["cpu"], rel=1e-4)


def digits(run, *arguments):
    """Train digits a little; return the exit code."""
    AcceleratorState._reset_state(True)
    return main(["train", "digits", "--run-dir", str(run), "--device", DEVICE, "--limit-batches", "4", *arguments])


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
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("in/black.png")
    for device in ("cpu", DEVICE):
        AcceleratorState._reset_state(True)
        assert main(["predict", "run", "--input", "in", "--output", f"out-{device}", "--device", device]) == 0
    read = [(Path(f"out-{device}") / "predictions.csv").read_text() for device in ("cpu", DEVICE)]
    assert read[0].count("\n") == read[1].count("\n") == 2


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
def test_a_full_gpu_ends_the_run_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(GREEDY)
    assert main(["train", "./mine.py", "--run-dir", "run"]) == 1
    error = capsys.readouterr().err.strip()
    assert "the GPU's memory ran out" in error
    assert "lower --batch-size" in error
    assert "Traceback" not in error
    assert torch.ones(3, device="cuda").sum().item() == 3


GREEDY = '''
"""Takes more memory than there is."""
import torch
from torch import nn
from assay.runner import Experiment
from dataclasses import dataclass

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, image):
        return {"logits": self.layer(image) + torch.empty(2**50, dtype=torch.uint8, device=image.device)[0]}

@dataclass(kw_only=True)
class Greedy(Experiment):
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
from test_gpu import CRITERION, LOSSES, Classifier, classes, classification_diagnostics, CLASSES, loaders, train
from pathlib import Path
given = classification_diagnostics("full", class_names=CLASSES, gradients_every_n_steps=1)
runner = train(Path(sys.argv[4]), device, Classifier, loaders(classes), CRITERION, given, lr=0.01, losses=LOSSES)
assert dist.get_backend() == backend, dist.get_backend()
print("history", rank, sorted(runner.history[2]["train"].items()))
"""


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
    lines = sorted(line for line in ran.stdout.splitlines() if line.startswith("history"))
    assert len(lines) == ranks
    for line in lines:
        together = dict(eval(line.split(" ", 2)[2]))
        assert together["loss"] == pytest.approx(runner.history[2]["train"]["loss"], rel=1e-3)
