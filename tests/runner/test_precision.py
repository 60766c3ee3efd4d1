"""Half precision learns as well as full precision, and its gradients mean the same."""

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from kit import fit, read_events
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import GradientStats
from assay.experiments.digits import DigitNet, Digits
from assay.runner import DictRunner, Engine, UsageError, train
from assay.runner.saving.loggers import read_metrics

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


PRECISIONS = [
    ("bf16", "cpu"),
    pytest.param("bf16", "cuda", marks=needs_gpu),
    pytest.param("fp16", "cuda", marks=needs_gpu),
    pytest.param("tf32", "cuda", marks=needs_gpu),
]
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture
def accuracy(tmp_path):
    """Return a function that trains digits and returns the best accuracy of validation."""

    def learn(precision, device):
        AcceleratorState._reset_state(True)
        fields = {"epochs": 8, "width": 16, "diagnostics": "off", "threads": torch.get_num_threads()}
        digits = Digits(precision=precision, device=device, monitor=["valid/accuracy:max"], **fields)
        folder = train(digits, name="digits", run_dir=tmp_path / precision)
        metrics = read_metrics(folder / "metrics.csv")
        return max(value for (_, loader, name), value in metrics.items() if (loader, name) == ("valid", "accuracy"))

    return learn


@pytest.mark.long("trains digits to the end, twice")
@pytest.mark.parametrize(("precision", "device"), PRECISIONS)
def test_digits_are_read_as_well_as_with_full_precision(accuracy, precision, device):
    full = accuracy("fp32", device)
    assert full > 0.97
    assert accuracy(precision, device) >= full - 0.01


def test_fp16_on_a_cpu_is_one_clear_error(tmp_path):
    with pytest.raises(UsageError, match="precision 'fp16' needs a GPU; on a CPU choose 'bf16' or 'fp32'"):
        train(Digits(precision="fp16", device="cpu"), name="digits", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def make_digit_net():
    torch.manual_seed(0)
    return DigitNet(8)


def make_items():
    images = torch.from_numpy(np.random.default_rng(0).random((64, 1, 8, 8), dtype=np.float32))
    return [{"image": image, "target": index % 10} for index, image in enumerate(images)]


def gradient_statistics(folder, precision, device):
    """Return the statistics of each parameter by name and kind, over an epoch that changes no weight."""
    AcceleratorState._reset_state(True)
    model = make_digit_net()
    fit(
        DictRunner(), model, {"train": make_items()}, [GradientStats(per_parameter=True)], batch=32,
        engine=Engine(device, precision), lr=0.0, logdir=str(folder),
    )  # fmt: skip
    events = read_events(folder / "train")
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("9_gradients/")]
    return {tuple(tag.split("/")[1:]): events.Scalars(tag)[0].value for tag in tags}


def plain_gradients(precision, device):
    """Return the gradients of each step of a plain loop by the name of the parameter, as float64."""
    model, steps = make_digit_net().to(device).train(), []
    half, scale = HALF.get(precision), 2.0**16 if precision == "fp16" else 1.0
    for batch in DataLoader(make_items(), 32):
        model.zero_grad()
        with torch.autocast(device, dtype=half, enabled=half is not None):
            logits = model(batch["image"].to(device))["logits"]
        (nn.functional.cross_entropy(logits.float(), batch["target"].to(device)) * scale).backward()
        steps.append({name: part.grad.cpu().double() / scale for name, part in model.named_parameters()})
    return steps


@pytest.mark.parametrize(("precision", "device"), PRECISIONS)
def test_gradient_statistics_are_those_of_a_plain_loop_in_the_same_precision(tmp_path, precision, device):
    found = gradient_statistics(tmp_path / "half", precision, device)
    half = plain_gradients(precision, device)
    full = gradient_statistics(tmp_path / "full", "fp32", device)
    exact = plain_gradients("fp32", device)
    for name in half[0]:
        grads, whole = torch.stack([step[name] for step in half]), torch.stack([step[name] for step in exact])
        norm = torch.stack([grad.norm() for grad in grads]).mean().item()
        lost = torch.stack([(mine - other).norm() for mine, other in zip(grads, whole, strict=True)]).max().item()
        expected = {"norm": norm, "min": grads.min().item(), "max": grads.max().item(), "mean": grads.mean().item()}
        for kind, value in expected.items():
            assert found[name, kind] == pytest.approx(value, rel=0, abs=1e-4 * norm), (name, kind)
            # None of them moves by more than the gradient does, which loses a bit in each of ten layers.
            assert abs(found[name, kind] - full[name, kind]) <= lost + 1e-4 * norm, (name, kind)
        assert lost <= 0.2 * norm, name
    assert found != full
