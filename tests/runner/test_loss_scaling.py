"""Loss scaling against a plain loop with torch's own scaler; on a CPU, where accelerate has none for itself."""

import copy

import numpy as np
import pytest
import torch
from kit import fit, read_events
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from assay.callbacks import GradientStats, OptimizerMonitor
from assay.callbacks.non_finite.guard import NonFiniteGuard
from assay.callbacks.non_finite.report import NonFiniteError
from assay.runner import DictRunner, Engine, load_checkpoint

FAR = 2.0**21  # a loss scale at which a gradient of 0.03 overflows in fp16
DECAY = 0.9


class ScaledEngine(Engine):
    """Scales the loss as accelerate does for fp16 on a GPU; the forward pass stays in fp32."""

    def __init__(self, scale, **options):
        super().__init__("cpu")
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3, **options)


class HalfGradient(torch.autograd.Function):
    """Its gradient passes through fp16, as it does on a GPU."""

    @staticmethod
    def forward(ctx, part):
        return part.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.half().float()


class Net(nn.Module):
    def __init__(self, overflows):
        super().__init__()
        self.overflows = overflows
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, image):
        logits = self.body(image)
        return {"logits": HalfGradient.apply(logits) if self.overflows else logits}


def make_net(overflows=True):
    torch.manual_seed(0)
    return Net(overflows)


def make_optimizer(net, fused):
    return torch.optim.AdamW(net.parameters(), lr=0.01, fused=fused)


def schedule(optimizer):
    return LambdaLR(optimizer, lambda step: 1 / (1 + step))


def make_items(count=22):
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32))
    return [{"image": images[i], "target": i % 3, "sample_id": f"s{i}"} for i in range(count)]


def groups(items, accumulate_steps):
    """Return the batches of each optimizer step."""
    batches = list(DataLoader(items, 4))
    return [batches[first : first + accumulate_steps] for first in range(0, len(batches), accumulate_steps)]


def train(scale, *, epochs=2, fused=False, net=None, callbacks=(), items=None, folder=None, resume=None, **options):
    net = net or make_net()
    optimizer = make_optimizer(net, fused)
    runner = DictRunner(scheduler_step="batch", ema_decay=DECAY, **options)
    return fit(
        runner, net, {"train": items or make_items()}, list(callbacks), batch=4,
        engine=Engine("cpu") if scale is None else ScaledEngine(scale), optimizer=optimizer, epochs=epochs,
        scheduler=schedule(optimizer), logdir=None if folder is None else str(folder),
        resume=None if resume is None else str(resume),
    )  # fmt: skip


def scalars(folder):
    events = read_events(folder / "train")
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


OPTIONS = [{}, {"clip_grad_norm": 0.5}, {"clip_grad_value": 0.01}, {"accumulate_steps": 3}]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_statistics_and_weights_are_those_without_scaling(tmp_path, options, fused):
    nets = {}
    for name, scale in (("plain", None), ("scaled", 1024.0)):
        watching = [GradientStats(per_parameter=True), OptimizerMonitor()]
        nets[name] = make_net(overflows=False)
        train(scale, net=nets[name], folder=tmp_path / name, callbacks=watching, fused=fused, **options)
    plain, scaled = (scalars(tmp_path / name) for name in nets)
    assert scaled.pop("9_optimizer/skipped_steps") == [0.0, 0.0]
    assert scaled.pop("9_optimizer/loss_scale")[-1] > 1024.0  # it has grown
    assert scaled.keys() == plain.keys() and len(plain) > 6 * 6
    for tag, values in plain.items():
        norm = max(plain.get(f"{tag.rpartition('/')[0]}/norm", [max(map(abs, values))]))
        np.testing.assert_allclose(scaled[tag], values, rtol=0, atol=1e-6 * norm, err_msg=tag)
    for name, value in nets["plain"].state_dict().items():
        torch.testing.assert_close(nets["scaled"].state_dict()[name], value, rtol=1e-5, atol=1e-6)


def plain_loop(fused, items, *, epochs=2, accumulate_steps=1, clip_grad_norm=None, clip_grad_value=None):
    """Return the net, its average, the scaler, the optimizer, and of each epoch the norms of the steps that were made.

    As in timm's training loop the average and the schedule move on at every step, at those skipped too.
    """
    net = make_net().train()
    optimizer, average = make_optimizer(net, fused), copy.deepcopy(net)
    scaler, scheduler = torch.amp.GradScaler("cpu", init_scale=FAR, growth_interval=3), schedule(optimizer)
    norms, step = [], 0
    for _ in range(epochs):
        norms.append([])
        for group in groups(items, accumulate_steps):
            samples = sum(len(batch["target"]) for batch in group)
            for batch in group:
                loss = nn.functional.cross_entropy(net(batch["image"])["logits"], batch["target"])
                scaler.scale(loss * (len(batch["target"]) / samples)).backward()
            scaler.unscale_(optimizer)
            if clip_grad_value is not None:
                nn.utils.clip_grad_value_(net.parameters(), clip_grad_value)
            norm = nn.utils.clip_grad_norm_(net.parameters(), clip_grad_norm or float("inf"))
            scaler.step(optimizer)
            before = scaler.get_scale()
            scaler.update()
            if scaler.get_scale() >= before:
                norms[-1].append(norm.item())
            optimizer.zero_grad()
            step += 1
            weight = 1 - min(DECAY, (1 + step) / (10 + step))
            for mine, source in zip(tensors(average), tensors(net), strict=True):
                mine.copy_(mine + weight * (source - mine) if source.is_floating_point() else source)
            scheduler.step()
    return net, average, scaler, optimizer, norms


def tensors(net):
    return [*(part.detach() for part in net.parameters()), *net.buffers()]


# torch warns where the first step of an optimizer is skipped, and the schedule moves on.
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_overflow_skips_the_step_halves_the_scale_and_leaves_the_rest_as_torch_does(tmp_path, options, fused):
    net, items = make_net(), make_items(40)
    runner = train(FAR, net=net, items=items, fused=fused, folder=tmp_path, callbacks=[OptimizerMonitor()], **options)
    expected, average, scaler, optimizer, norms = plain_loop(fused, items, **options)
    for mine, wanted in ((net, expected), (runner.ema_.models[""], average)):
        for name, value in wanted.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name], value, rtol=1e-6, atol=1e-7, msg=name)
    assert runner.engine.scaler.state_dict() == scaler.state_dict()
    assert runner.optimizer.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    steps, seen = len(groups(items, options.get("accumulate_steps", 1))), scalars(tmp_path)
    skipped = [steps - len(made) for made in norms]
    assert seen["9_optimizer/skipped_steps"] == skipped and sum(skipped) >= 2
    assert seen["9_optimizer/loss_scale"][-1] == scaler.get_scale()
    assert seen["9_optimizer/grad_norm"] == pytest.approx([np.mean(made) for made in norms], rel=1e-5)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_resumed_run_goes_on_with_the_scale_and_its_count_of_steps(tmp_path):
    whole = train(FAR, epochs=3, folder=tmp_path / "whole", fused=True)
    train(FAR, epochs=1, folder=tmp_path / "parts", fused=True)
    parts = train(1.0, epochs=3, folder=tmp_path / "parts", resume=tmp_path / "parts", fused=True)
    saved = load_checkpoint(tmp_path / "whole" / "checkpoints" / "last.pt")
    assert 1.0 < saved["scaler"]["scale"] < FAR
    assert parts.engine.scaler.state_dict() == whole.engine.scaler.state_dict()
    resumed = load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt")
    assert resumed["scaler"] == saved["scaler"]
    for name, value in saved["model"][""].items():
        assert torch.equal(resumed["model"][""][name], value), name


class Infinite(nn.Module):
    """Its gradient is infinite, whatever the loss is scaled by."""

    def __init__(self):
        super().__init__()
        self.layer, self.root = nn.Linear(4, 3), nn.Parameter(torch.zeros(1))

    def forward(self, image):
        return {"logits": self.layer(image) + self.root.abs().sqrt()}


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("fused", [False, True])
def test_the_guard_leaves_an_overflow_to_the_scaler_until_the_scale_is_below_1(tmp_path, fused):
    net = Infinite()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(NonFiniteError, match=r"epoch 1, step 4 of train: gradients of 'root'.* are not finite"):
        train(4.0, net=net, folder=tmp_path, callbacks=[NonFiniteGuard()], fused=fused)
    for name, value in before.items():
        assert torch.equal(net.state_dict()[name], value)


class TwoNets(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, image):
        return {"logits": self.head(torch.tanh(self.body(image)))}


@pytest.mark.parametrize("clip_grad_norm", [None, 0.05])
def test_each_of_several_optimizers_is_unscaled_by_the_same_scale(clip_grad_norm):
    weights = []
    for engine in (Engine("cpu"), ScaledEngine(1024.0)):
        net = TwoNets()
        runner = DictRunner(net, clip_grad_norm=clip_grad_norm)
        runner.train(
            engine=engine,
            criterion=nn.CrossEntropyLoss(),
            optimizer={name: torch.optim.SGD(getattr(net, name).parameters(), lr=0.1) for name in ("body", "head")},
            loaders={"train": DataLoader(make_items(), 4)},
            num_epochs=3,
        )
        weights.append(net.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-5, atol=1e-6)
