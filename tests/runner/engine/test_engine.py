"""The engine: stock Catalyst on today's accelerate, and clear words where device or precision cannot be had."""

import math

import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn
from torch.utils.data import TensorDataset

from assay.runner import DictRunner, Engine, UsageError


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(24, 4, generator=generator)
    return TensorDataset(images, (images[:, 0] > 0).long())


@pytest.fixture
def restore_tf32():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


# what the stock runner and its callbacks remark on each other
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_stock_supervised_runner_trains_with_metrics_and_checkpoints(pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    runner = dl.SupervisedRunner()
    fit(
        runner,
        model,
        pairs,
        [
            dl.AccuracyCallback(input_key="logits", target_key="targets", topk=(1,)),
            dl.AUCCallback(input_key="logits", target_key="targets"),
            dl.CheckpointCallback("checkpoints", loader_key="valid", metric_key="loss", minimize=True),
        ],
        batch=8,
        lr=0.5,
        epochs=2,
    )
    metrics = runner.experiment_metrics[2]["valid"]
    with torch.no_grad():
        logits = model(pairs.tensors[0])
    assert metrics["accuracy01"] == pytest.approx((logits.argmax(1) == pairs.tensors[1]).double().mean().item())
    assert metrics["loss"] == pytest.approx(nn.functional.cross_entropy(logits, pairs.tensors[1]).item(), abs=1e-5)
    assert 0.5 < metrics["auc"] <= 1.0
    assert sorted(runner.experiment_metrics) == [1, 2]
    assert not torch.equal(before, model.weight)
    assert (tmp_path / "checkpoints" / "model.last.pth").is_file()


def test_metrics_on_one_process_are_handed_back_as_they_are():
    metrics = {"accuracy": 0.5}
    assert Engine("cpu").mean_reduce_ddp_metrics(metrics) is metrics


def test_the_default_engine_on_a_machine_without_gpu_is_the_cpu_in_fp32():
    engine = Engine()
    if not torch.cuda.is_available():
        assert engine.device == torch.device("cpu")
    assert engine.mixed_precision == "no"
    assert engine.use_fp16 is False


@pytest.mark.parametrize(
    ("arguments", "name", "nearest"), [({"device": "gpu"}, "gpu", "cpu"), ({"precision": "fp61"}, "fp61", "fp16")]
)
def test_an_unknown_device_or_precision_is_refused_with_the_closest_name(arguments, name, nearest):
    (kind,) = arguments
    with pytest.raises(UsageError, match=rf"unknown {kind} '{name}'; did you mean '{nearest}'\? There is: "):
        Engine(**arguments)


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(UsageError, match="precision 'fp16' needs a GPU; on a CPU choose 'bf16' or 'fp32'"):
        Engine("cpu", "fp16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_without_a_gpu_is_refused():
    with pytest.raises(UsageError, match="'cuda' needs a GPU"):
        Engine("cuda")


def test_another_precision_in_the_same_process_is_refused():
    Engine("cpu", "bf16")
    with pytest.raises(UsageError, match=r"this process already runs on 'cpu' with .* 'bf16'.*new process"):
        Engine("cpu", "fp32")


def test_the_same_precision_twice_in_a_process_is_fine():
    first, second = Engine("cpu", "bf16"), Engine("cpu", "bf16")
    assert first.mixed_precision == second.mixed_precision == "bf16"


def test_tf32_is_switched_on_and_off_again_by_the_precision(restore_tf32):
    Engine("cpu", "tf32")
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    Engine("cpu", "fp32")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_bf16_computes_the_forward_pass_in_half_precision_and_learns(make_net, make_loader):
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make_net().float()

        def forward(self, image):
            hidden = self.net.body(image.float())
            seen.append(hidden.dtype)
            return {"logits": self.net.logits(torch.tanh(hidden))}

    model = Spy()
    runner = DictRunner()
    fit(runner, model, {"train": make_loader()}, engine=Engine("cpu", "bf16"), epochs=3)
    losses = [runner.history[epoch]["train"]["loss"] for epoch in (1, 2, 3)]
    assert set(seen) == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[2] < losses[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fp16_on_a_gpu_scales_the_loss_and_learns(make_net, make_items):
    items = [{**item, "image": item["image"].float()} for item in make_items(20)]
    model = make_net().float()
    runner = DictRunner()
    fit(runner, model, {"train": items}, batch=4, engine=Engine("cuda", "fp16"), epochs=3)
    assert runner.engine.use_fp16
    assert runner.engine.scaler is not None
    assert runner.history[3]["train"]["loss"] < runner.history[1]["train"]["loss"]
