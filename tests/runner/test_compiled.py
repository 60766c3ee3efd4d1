"""Models that are compiled, as a whole or in part: their checkpoints, and their gradients on several ranks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks.non_finite.guard import NonFiniteGuard
from assay.callbacks.non_finite.report import NonFiniteError
from assay.runner import DictRunner, Engine, load_checkpoint

KINDS = ("in place", "wrapped", "part")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh())
        self.head = nn.Linear(6, 3)

    def forward(self, image):
        return {"logits": self.head(self.body(image))}


def make_net(kind=None):
    """Return the same net each time; compiled by a back end that computes as torch does, and takes no time."""
    torch.manual_seed(0)
    net = Net()
    if kind == "in place":  # as --compile does
        net.compile(backend="eager")
    elif kind == "part":
        net.body = torch.compile(net.body, backend="eager")
    return torch.compile(net, backend="eager") if kind == "wrapped" else net


def make_items(count=22):
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32))
    return [{"image": images[i], "target": i % 3, "sample_id": f"s{i}"} for i in range(count)]


def train(kind, epochs, *, precision="fp32", callbacks=(), items=None, **options):
    """Train; return the weights by the names of the eager net."""
    torch._dynamo.reset()
    items = items or make_items()
    net = make_net(kind)
    runner = DictRunner(net)
    runner.train(
        engine=Engine("cpu", precision),
        criterion=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
        loaders={"train": DataLoader(items, 4, shuffle=True), "valid": DataLoader(items[:6], 4)},
        num_epochs=epochs,
        callbacks=list(callbacks),
        **options,
    )
    return {name: value.clone() for name, value in runner.state_dict()["model"][""].items()}, runner.history


def assert_equal(first, second):
    assert first.keys() == second.keys() == make_net().state_dict().keys()
    for name, value in second.items():
        assert torch.equal(first[name], value), name


LONG = pytest.mark.long("trains two runs; each kind and each order is tried by quicker ones")


@pytest.mark.parametrize(
    ("kind", "compiled_first"),
    [
        ("in place", True),
        ("wrapped", False),
        ("part", True),
        *(pytest.param(*both, marks=LONG) for both in (("in place", False), ("wrapped", True), ("part", False))),
    ],
)
def test_a_run_goes_on_compiled_or_not_whatever_it_was_before(tmp_path, kind, compiled_first):
    expected, history = train(None, 3)
    kinds = (kind, None) if compiled_first else (None, kind)
    train(kinds[0], 2, logdir=str(tmp_path))
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.pt")["model"][""]
    assert saved.keys() == make_net().state_dict().keys()
    weights, mine = train(kinds[1], 3, logdir=str(tmp_path), resume=str(tmp_path))
    assert_equal(weights, expected)
    assert mine == history


@pytest.mark.parametrize("kind", KINDS)
def test_validation_of_a_compiled_model_keeps_the_mixed_precision(kind):
    expected, history = train(None, 2, precision="bf16")
    weights, mine = train(kind, 2, precision="bf16")
    assert_equal(weights, expected)
    assert mine == history


def predict(net):
    runner = DictRunner(net, engine=Engine("cpu"))
    return torch.cat([part["logits"] for part in runner.predict_loader(loader=DataLoader(make_items(), 4))])


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_model_predicts_as_it_does_without(kind):
    torch.testing.assert_close(predict(make_net(kind)), predict(make_net()), rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_module_that_breaks_is_found_in_a_compiled_model(tmp_path, kind):
    items = make_items()
    items[5]["image"][0] = torch.nan
    with pytest.raises(NonFiniteError, match=r"first non-finite output: module 'body.0' \(Linear\)"):
        train(kind, 1, items=items, callbacks=[NonFiniteGuard()], logdir=str(tmp_path))


# -- two ranks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_still_share_their_gradients_after_a_validation(processes, tmp_path, kind):
    expected = processes.run(2, train, None, 3)
    for (weights, history), (wanted, wanted_history) in zip(
        processes.run(2, resumed, kind, str(tmp_path)), expected, strict=True
    ):
        assert_equal(weights, wanted)
        assert_equal(weights, expected[0][0])
        assert history == wanted_history


def resumed(kind, folder):
    """Train two epochs compiled, and one without."""
    train(kind, 2, logdir=folder)
    return train(None, 3, logdir=folder, resume=folder)
