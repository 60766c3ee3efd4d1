import logging

import numpy as np
import pytest
import torch
from kit import SIDES, fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import UsageError
from assay.callbacks.measures.explained_layer import Layer
from assay.callbacks.measures.image_layouts import Planes, Tokens
from assay.callbacks.samples.best_worst_samples import BestWorstSamples
from assay.callbacks.samples.grad_cam import GradCAM, _describe
from assay.runner import DictRunner

K = 5


class Net(nn.Module):
    """All that a second forward pass could disturb: running means, dropout, work in place."""

    def __init__(self, key=None):
        super().__init__()
        self.key = key
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, image):
        logits = self.head(self.body(image))
        return logits if self.key is None else {self.key: logits}


class Spied(GradCAM):
    """Keeps the maps, and what torch would see of the model around their making."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.maps, self.states, self.rankings = [], [], []

    def show(self, runner, writer, ranking):
        self.rankings.append(ranking)
        before = state_of(runner)
        super().show(runner, writer, ranking)
        self.states.append((before, state_of(runner)))

    def _maps(self, runner, samples):
        maps = super()._maps(runner, samples)
        self.maps.append(maps)
        return maps


def state_of(runner):
    model = runner.model
    return {
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "gradients": [p.grad if p.grad is None else p.grad.clone() for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [(*module._forward_hooks, *module._forward_pre_hooks) for module in model.modules()],
        "random": torch.get_rng_state(),
        "needs": [p.requires_grad for p in model.parameters()],
    }


def make_items(names=("image", "target", "sample_id"), count=19):
    rng = np.random.default_rng(0)
    image, target, name = names
    return [
        {image: torch.from_numpy(rng.normal(size=(1, 8, 8)).astype(np.float32)), target: i % 3, name: f"sample-{i:02d}"}
        for i in range(count)
    ]


def run(kit, folder, callbacks, *, model=None, items=None, epochs=2, runner=None, **options):
    torch.manual_seed(0)
    side = SIDES[kit]
    items = items or {"train": make_items(side.names), "valid": make_items(side.names)}
    model, runner = model or Net(side.key), runner or side.runner()
    fit(
        runner, model, {key: DataLoader(of, batch_size=6, shuffle=key == "train") for key, of in items.items()},
        callbacks,
        optimizer=torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9),
        criterion=options.pop("criterion", nn.CrossEntropyLoss()), epochs=epochs, **side.logs(folder),
    )  # fmt: skip
    return model, folder


@pytest.mark.parametrize("kit", ["stock", "ours"])
def test_the_maps_of_the_worst_samples_are_written_and_leave_no_trace(kit, tmp_path, read_events):
    keys = SIDES[kit].keys
    plain, _ = run(kit, tmp_path / "plain", [])
    spied = Spied(k_samples=K, **keys)
    model, folder = run(kit, tmp_path / "explained", [spied])
    for loader in ("train", "valid"):
        events = read_events(folder / loader).Images("7_grad_cam/worst/loss")
        assert [event.step for event in events] == [1, 2]
    assert [len(maps) for maps in spied.maps] == [K] * 4
    assert all(heat.shape == (6, 6) and heat.min() >= 0 and heat.max() <= 1 for maps in spied.maps for heat in maps)
    assert any(heat.max() == 1 for maps in spied.maps for heat in maps)
    for before, after in spied.states:
        torch.testing.assert_close(after, before, rtol=0, atol=0)
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_the_map_is_that_of_the_weights_at_the_end_of_the_loader(tmp_path):
    spied = Spied(k_samples=K, layer="body.0")
    model, _ = run("ours", tmp_path, [spied], epochs=1)
    model.eval()
    for sample, heat, scale in zip(spied.rankings[1].worst, spied.maps[1], spied.scales_, strict=True):
        image = torch.from_numpy(sample.parts["image"])[None]
        activations = model.body[0](image)
        score = model.head(model.body[1:](activations.clone())).max()
        (slope,) = torch.autograd.grad(score, activations)
        expected = (slope.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1)[0].clamp(min=0).detach().numpy()
        np.testing.assert_allclose(heat, expected / max(expected.max(), 1e-30), atol=1e-5)
        assert scale == pytest.approx(expected.max(), rel=1e-5)


def test_the_samples_are_those_that_are_shown_beside_it(tmp_path):
    shown, spied = BestWorstSamples(k_samples=K), Spied(k_samples=K)
    run("ours", tmp_path, [shown, spied], epochs=1)
    assert shown.source_ is spied  # its pass over the network comes before what others draw beside it
    assert len(spied.maps[0]) == K


def test_a_frozen_model_is_explained_too(tmp_path):
    model = Net("logits")
    model.body.requires_grad_(False)
    spied = Spied(k_samples=K)
    run("ours", tmp_path, [spied], model=model, epochs=1)
    assert spied.maps[0][0].shape == (6, 6)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3, 3)

    def forward(self, image, gain):
        return {"logits": self.head(self.layer(image).mean(dim=(2, 3)) * gain[:, None])}


def test_further_inputs_of_the_model_are_kept_with_a_sample(tmp_path):
    items = [{**item, "gain": torch.tensor(float(i))} for i, item in enumerate(make_items())]
    spied, shown = Spied(k_samples=K), BestWorstSamples(k_samples=K)
    runner = DictRunner(input_key=["image", "gain"])
    run("ours", tmp_path, [shown, spied], model=TwoInputs(), items={"train": items}, runner=runner, epochs=1)
    assert spied.source_ is spied
    for sample in spied.rankings[0].worst:
        assert sample.parts["inputs"] == {"gain": float(sample.sample_id[-2:])}


class Mask(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 4, 2, stride=2), nn.ConvTranspose2d(4, 1, 2, stride=2)

    def forward(self, image):
        return {"logits": self.up(self.down(image).relu())}


@pytest.mark.parametrize("explain", ["predicted", "true", 1])
def test_masks_are_explained_by_the_last_layer_before_the_classes(explain, tmp_path, read_events):
    items = [{**item, "target": (item["image"] > 0).float()} for item in make_items()]
    spied = Spied(k_samples=3, explain=explain)
    _, folder = run(
        "ours", tmp_path, [spied], model=Mask(), items={"train": items}, criterion=nn.BCEWithLogitsLoss(), epochs=1
    )
    assert [heat.shape for heat in spied.maps[0]] == [(4, 4)] * 3
    assert read_events(folder / "train").Images("7_grad_cam/worst/loss")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"explain": "truth"}, "unknown explain 'truth' .*did you mean 'true'"),
        ({"explain": -1}, "explain must be 'predicted', 'true' or a class number, got -1"),
        ({"explain": True}, "explain must be .*got True"),
        ({"task": "detection"}, "of detected boxes there is no Grad-CAM"),
        ({"task": "logits"}, "task must be one of binary, multiclass, multilabel, regression, got 'logits'"),
        ({"reshape": "nhcw"}, "unknown reshape 'nhcw' .*did you mean 'nhwc'"),
        ({"reshape": 4, "layer": "a"}, "reshape must be one of nchw, nhwc, tokens, a function or None, got 4"),
        ({"reshape": lambda out: out}, "reshape as a function needs layer"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        GradCAM(**arguments)


class Flat(nn.Module):
    def __init__(self, key=None):
        super().__init__()
        self.key = key
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, image):
        logits = self.layers(image)
        return logits if self.key is None else {self.key: logits}


@pytest.mark.parametrize("kit", ["stock", "ours"])
def test_a_model_without_maps_is_trained_on_and_told_of_once_without_a_warning(kit, tmp_path, read_events, caplog):
    caplog.set_level(logging.INFO, logger="assay")
    keys = SIDES[kit].keys
    model = Flat() if kit == "stock" else Flat("logits")
    _, folder = run(kit, tmp_path, [GradCAM(k_samples=2, **keys)], model=model)
    said = [record.getMessage() for record in caplog.records if record.name == "assay"]
    assert len(said) == 1 and caplog.records[-1].levelno == logging.INFO
    assert said[0].startswith("GradCAM draws nothing: no layer of the model gives a map of the image")
    assert "7_grad_cam/worst/loss" not in read_events(folder / "train").Tags()["images"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "body.9"}, "unknown layer 'body.9'; did you mean 'body.*There is: 'body', 'body.0'"),
        ({"layer": "head.2"}, r"layer must be one whose output is a map of .*\[N, C, h, w\].*: Linear gives none"),
        ({"layer": "body.0", "reshape": "tokens"}, r"whose output is \[N, tokens, C\]: Conv2d gives none"),
        (
            {"layer": "body.0", "reshape": lambda out: out[0]},
            r"reshape must return \[N, C, h, w\], N = 2, got \(4, 6, 6\)",
        ),
        ({"explain": 3}, "explain must be a class from 0 to 2, got 3"),
    ],
)
def test_a_layer_or_class_that_does_not_exist_is_refused_and_leaves_no_trace(arguments, message, tmp_path):
    callback, model = GradCAM(k_samples=2, **arguments), Net("logits")
    with pytest.raises(UsageError, match=message):
        run("ours", tmp_path, [callback], model=model, epochs=1)
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_title_names_the_layer_and_its_map():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    for layout, kind in ((Planes(channels_last=True), "places"), (Tokens(), "tokens")):
        line = _describe(Layer(model[1], layout), {"": model}, np.zeros((4, 6)))
        assert line == f"layer 1 (ReLU), 4 x 6 {kind}"


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 1)

    def forward(self, image):
        return {"logits": self.head(self.body(image).tanh().mean(dim=(2, 3)))[:, 0]}


def own_loss(output, target):
    return (output - target).square().mean()


def test_whole_numbers_of_a_loss_of_ones_own_are_explained_only_when_the_task_is_named(tmp_path):
    items = {"train": [{**item, "target": 2 + i % 5} for i, item in enumerate(make_items())]}
    spied = Spied(k_samples=2, explain="true", task="regression")
    run("ours", tmp_path / "named", [spied], model=Regression(), items=items, criterion=own_loss, epochs=1)
    assert not any("no gradient" in note for note in spied.notes_)
    with pytest.raises(UsageError, match=r"needs a target that is a class, or classes, got \(\) of int.*name the task"):
        run(
            "ours",
            tmp_path / "not",
            [GradCAM(k_samples=2, explain="true")],
            model=Regression(),
            items=items,
            criterion=own_loss,
            epochs=1,
        )


class Scores(nn.Module):
    """A layer that gives something that is not in the order of the image."""

    def __init__(self):
        super().__init__()
        self.body, self.order, self.head = nn.Conv2d(1, 4, 3), nn.Identity(), nn.Linear(4, 3)

    def forward(self, image):
        places = self.body(image).flatten(2)
        mixed = places[:, :, torch.randperm(36, generator=torch.Generator().manual_seed(0))].unflatten(2, (6, 6))
        return {"logits": self.head(self.order(mixed).relu().mean(dim=(2, 3)))}


@pytest.mark.parametrize("reshape", [None, "nchw"])
def test_a_layer_whose_output_does_not_follow_the_image_is_refused_however_it_is_read(reshape, tmp_path):
    callback = GradCAM(k_samples=2, layer="order", reshape=reshape)
    with pytest.raises(UsageError, match="layer must be one whose output follows the image: in that of 'order'"):
        run("ours", tmp_path, [callback], model=Scores(), epochs=1)
