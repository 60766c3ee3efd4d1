"""GradCAM in runners that its user wrote: a handle_batch of their own, one model or several."""

import copy

import numpy as np
import pytest
import torch
from catalyst import dl
from sweep_parts import Net, make_loaders
from torch.nn import functional as F

from assay.callbacks import GradCAM
from assay.callbacks.errors import UsageError
from assay.runner import DictRunner, Engine

pytestmark = pytest.mark.filterwarnings("ignore:No ``I")  # Catalyst, of every runner with a step of its own

NAMES = {"image": "image", "target": "target", "sample_id": "sample_id"}


class OwnRunner(dl.Runner):
    """As its owner would write it."""

    def predict(self, image):
        return self.model(image)

    def handle_batch(self, batch):
        logits = self.predict(batch["image"])
        losses = F.cross_entropy(logits, batch["target"], reduction="none")
        self.batch = {**batch, "logits": logits, "losses": losses}
        self.batch_metrics["loss"] = losses.mean()
        if self.is_train_loader:
            self.engine.backward(losses.mean())
            self.optimizer.step()
            self.optimizer.zero_grad()


class Distillation(OwnRunner):
    def predict(self, image):
        with torch.no_grad():
            self.model["teacher"](image)
        return self.model["student"](image)


class Maps(GradCAM):
    """Keeps the maps that it draws."""

    def _maps(self, runner, samples):
        maps = super()._maps(runner, samples)
        self.kept = {sample.sample_id: heat for sample, heat in zip(samples, maps, strict=True)}
        return maps


def make_net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net()


def train(runner, model, callback, folder, lr=0.0, **options):
    trained = model["student"] if isinstance(model, dict) else model
    runner.train(
        engine=Engine("cpu"), model=model, optimizer=torch.optim.SGD(trained.parameters(), lr=lr), num_epochs=1,
        loaders=make_loaders(NAMES), callbacks=[callback], loggers={"events": dl.TensorboardLogger(str(folder))},
        **options,
    )  # fmt: skip


def maps_of(runner, net, folder, **options):
    callback = Maps("losses", k_samples=5, **options)
    train(runner, net, callback, folder)
    return callback.kept


def assert_same_maps(found, expected):
    assert found.keys() == expected.keys()
    for name, heat in expected.items():
        np.testing.assert_allclose(found[name], heat, atol=1e-6)
    assert any(heat.max() > 0 for heat in found.values())


@pytest.fixture
def expected(tmp_path):
    """The maps of the model by a runner that has ``forward``."""

    class WithForward(OwnRunner):
        def forward(self, batch):
            return {"logits": self.model(batch["image"])}

    return maps_of(WithForward(), make_net(), tmp_path / "expected")


def test_a_runner_with_its_own_handle_batch_is_explained(expected, tmp_path, read_events):
    assert_same_maps(maps_of(OwnRunner(), make_net(), tmp_path), expected)
    assert [image.step for image in read_events(tmp_path / "valid").Images("7_grad_cam/worst/losses")] == [1]


@pytest.mark.parametrize("layer", [None, "body.0", "student.body.0"])
def test_of_several_models_the_named_one_is_explained(layer, expected, tmp_path):
    models = {"teacher": make_net(1), "student": make_net()}
    before = copy.deepcopy({name: model.state_dict() for name, model in models.items()})
    found = maps_of(Distillation(), models, tmp_path, model="student", layer=layer)
    if layer is None:
        assert_same_maps(found, expected)
    assert len(found) == 5
    for name, model in models.items():
        for key, value in model.named_parameters():
            assert torch.equal(value, before[name][key]) and (value.grad is None or not value.grad.any())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "must name which of the runner's models to explain, 'student', 'teacher': pass model='student'"),
        ({"model": "studnet"}, "unknown model 'studnet' of GradCAM; did you mean 'student'?"),
        ({"model": "student", "layer": "nothing"}, "unknown layer 'nothing'"),
    ],
)
def test_a_model_that_is_not_named_is_asked_for(options, said, tmp_path):
    models = {"teacher": make_net(1), "student": make_net()}
    with pytest.raises(UsageError) as caught:
        train(Distillation(), models, GradCAM("losses", **options), tmp_path)
    assert said in str(caught.value)


def test_a_name_for_the_only_model_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match=r"GradCAM.*the runner has one model, which needs no name: leave model='student' out"
    ):
        train(OwnRunner(), make_net(), GradCAM("losses", model="student"), tmp_path)


class TwoInputs(Net):
    def forward(self, image, scale):
        return super().forward(image) * scale


class Pair(Net):
    def forward(self, image):
        return super().forward(image), image


@pytest.mark.parametrize(
    ("model", "predict", "said"),
    [
        (TwoInputs(), lambda self, image: self.model(image, 2.0), "the model does not take the images alone"),
        (Pair(), lambda self, image: self.model(image)[0], "the model returned a tuple"),
    ],
)
def test_a_model_that_cannot_be_called_again_is_refused_at_its_first_batch(model, predict, said, tmp_path):
    runner = type("Runner", (OwnRunner,), {"predict": predict})()
    with pytest.raises(UsageError, match=r"give the runner a method forward\(batch\).*" + said):
        train(runner, model, GradCAM("losses"), tmp_path)
    assert runner.loader_batch_step == 1


def test_in_a_dict_runner_the_layer_is_of_the_named_model(tmp_path):
    class Second(Net):
        def forward(self, image):
            return {"other": super().forward(image)}

    models = {"student": Net("logits"), "teacher": Second()}
    callback = Maps(model="student", k_samples=2)
    train(DictRunner(input_key={"student": "image", "teacher": "image"}), models, callback, tmp_path,
          criterion=torch.nn.CrossEntropyLoss())  # fmt: skip
    assert callback.shown_.startswith("layer student.")
