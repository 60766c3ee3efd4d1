"""Plain values: what comes back is what was given, type and value, and the rest is refused by its place."""

import enum
import io
import re
import threading
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from catalyst import dl
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from assay.runner import Checkpoints, DictRunner, UsageError, load_checkpoint
from assay.runner.saving.plain_values import plain_state, restore_state

Point = namedtuple("Point", ["x", "y"])


def stored(value):
    """Return a value as a file gives it back to torch."""
    file = io.BytesIO()
    torch.save(plain_state({"value": value}), file)
    file.seek(0)
    return torch.load(file, weights_only=True)["value"]


def there_and_back(value):
    return restore_state(stored(value))


def assert_same(one, another):
    """Compare type and value, through all that holds others."""
    assert type(one) is type(another)
    if isinstance(one, dict):
        assert list(one) == list(another)
        for key in one:
            assert_same(one[key], another[key])
    elif isinstance(one, list | tuple | deque):
        assert len(one) == len(another)
        for a, b in zip(one, another, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == another.dtype
        np.testing.assert_array_equal(one, another)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, another)
    else:
        assert one == another


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -(2**80), 0.1, float("inf"), 1 + 2j, "ü", b"\x00\xff", bytearray(b"ab"),
        [1, [2, (3, "x")]], (), {"a": {1: None}, 2.5: b"", None: 0, (1, "a"): 2, True: 1},
        b"", [b""], {b"": 1, (b"",): 2},
        OrderedDict(b=1, a=[2]), Counter("aab"), torch.Size([2, 3]), torch.float16, torch.device("cpu"),
        torch.arange(3), nn.Parameter(torch.ones(2)),
        np.arange(6.0).reshape(2, 3), np.zeros((0, 3), np.uint16), np.array(7, np.int8), np.array([True, False]),
        np.array(["a", "bcd"]), np.array([b"x", b"yz"]), np.arange(3).astype(">i4"), np.asfortranarray(np.ones((2, 3))),
        np.arange(10)[::3], np.array(["2024-01-02"], "datetime64[D]"), np.longdouble([0.1]), np.array([1 + 2j], "c8"),
        np.float32(0.1), np.float16(0.1), np.uint8(200), np.longdouble(1) / 3, np.datetime64("2024-01-02T03:04"),
        {1, 2, "a"}, frozenset({(1, 2)}), set(), {Path("a/b"), Path("c")},
        deque([1, np.float32(2)], maxlen=5), deque(), defaultdict(int, a=1), defaultdict(list, {3: [np.int8(4)]}),
        defaultdict(None, a=1), Path("/a b/ü"), {Path("a"): 1, date(2024, 1, 2): [2]}, {frozenset({1}): 2},
        OrderedDict([(date(2024, 1, 2), 3)]), Counter({Path("a"): 3}), {"assay kind": "mine", "value": 1},
        datetime(2024, 1, 2, 3, 4, 5, 6), datetime(2024, 1, 2, tzinfo=UTC), date(2024, 1, 2), time(1, 2, 3),
        timedelta(days=-1, microseconds=7),
    ],
)  # fmt: skip
def test_a_value_comes_back_as_it_was(value):
    assert_same(there_and_back(value), value)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(0.1), 0.1),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.complex128(1j), 1j),
        ({np.int64(1): np.float64(2), np.str_("a"): 3}, {1: 2.0, "a": 3}),
        (MappingProxyType({"a": np.float64(1)}), {"a": 1.0}),
    ],
)
def test_what_python_has_too_is_pythons_in_the_file_itself(value, plain):
    assert_same(restore_state(stored(value)), plain)
    if not isinstance(value, MappingProxyType):
        assert_same(stored(value), plain)


def test_a_named_tuple_comes_back_with_its_fields():
    point = there_and_back([Point(1, np.float64(2))])[0]
    assert point == (1, 2.0)
    assert (point.x, point.y) == (1, 2.0)


def test_a_deque_and_a_defaultdict_go_on_as_before():
    longest, counts = there_and_back([deque([1, 2], maxlen=2), defaultdict(int, a=1)])
    longest.append(3)
    counts["b"] += 1
    assert list(longest) == [2, 3]
    assert counts == {"a": 1, "b": 1}


def test_what_is_plain_already_is_not_copied():
    state = {"model": {"weight": torch.ones(2)}, "history": {1: {"train": {"loss": 0.5}}}, "list": [1, (2,)]}
    assert all(plain_state(state)[name] is state[name] for name in state)


def test_the_versions_of_a_modules_parts_stay_with_its_state():
    weights = nn.BatchNorm1d(2).state_dict()
    weights["extra"] = np.float64(1)
    assert plain_state({"model": weights})["model"]._metadata == weights._metadata


def test_a_tensor_of_another_class_comes_back_as_torchs_own():
    class Image(torch.Tensor):
        pass

    tensor = torch.ones(2)
    tensor.note = threading.Lock()
    assert type(there_and_back(torch.ones(2).as_subclass(Image))) is torch.Tensor
    assert_same(there_and_back(tensor), torch.ones(2))


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Box:
    side: int


class Name(str):
    pass


class Registry(dict):
    pass


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (lambda: 0, "function"),
        (object(), "object"),
        (Colour.RED, "test_plain_values.Colour"),
        (Level.LOW, "test_plain_values.Level"),
        (Box(1), "test_plain_values.Box"),
        (Name("a"), "test_plain_values.Name"),
        (Registry(a=1), "test_plain_values.Registry"),
        (int, "type"),
        (range(3), "range"),
        (np, "module"),
        (iter([]), "list_iterator"),
        (threading.Lock(), "_thread.lock"),
        (torch.Generator(), "torch._C.Generator"),
        (np.array([object()]), "numpy.ndarray of object"),
        (np.zeros(1, [("a", int)]), "numpy.ndarray of [('a', '<i8')]"),
        (np.ma.masked_array([1]), "numpy.ma.MaskedArray"),
        (defaultdict(lambda: 0), "collections.defaultdict with the factory <function"),
    ],
)
@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda value: value, "callbacks"),
        (lambda value: {"Mine": [{"best": value}]}, "callbacks.Mine[0].best"),
        (lambda value: {"": {"_extra_state": (1, deque([value]))}}, r"callbacks._extra_state[1][0][0]"),
        (lambda value: {7: [{"a"}, [value]]}, "callbacks[7][1][0]"),
    ],
)
def test_another_value_is_refused_by_its_place_and_type(value, name, wrap, place):
    with pytest.raises(UsageError, match=re.escape(f"{place} is a {name}")) as refused:
        plain_state({"callbacks": wrap(value)})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.nested.nested_tensor([torch.ones(1)]), "(nested)"),
        (lambda: torch.nested.nested_tensor([torch.ones(1)], layout=torch.jagged), "(nested)"),
        (lambda: torch.ones(2).to_mkldnn(), "(torch._mkldnn of torch.float32)"),
        (lambda: torch.zeros(2, dtype=torch.uint1), "(torch.strided of torch.uint1)"),
    ],
    ids=["nested", "jagged", "mkldnn", "uint1"],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_tensor_that_torch_would_not_load_again_is_refused(make, kind):
    with pytest.raises(UsageError, match=rf"^mine\[0\] is a torch.*{re.escape(kind)}, which a checkpoint cannot hold"):
        plain_state({"mine": [make()]})


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
def test_tensors_of_rarer_kinds_that_torch_loads_are_kept():
    for rare in (torch.eye(2).to_sparse(), torch.ones(2, dtype=torch.float8_e4m3fn)):
        back = there_and_back(rare)
        assert (back.dtype, back.layout) == (rare.dtype, rare.layout)
        assert torch.equal(back.float().to_dense(), rare.float().to_dense())


def test_a_key_of_another_type_is_refused():
    with pytest.raises(UsageError, match=r"a key of extra is a test_plain_values\.Colour"):
        plain_state({"extra": {Colour.RED: 1}})


def test_what_refers_to_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(UsageError, match="cannot hold what refers to itself"):
        plain_state({"extra": value})


@pytest.mark.parametrize(
    "value",
    [
        {"assay kind": "function", "value": "os.system"},
        {"assay kind": "array", "value": ["O", [1], torch.zeros(8, dtype=torch.uint8)]},
        {"assay kind": "array", "value": ["<f8", [5], torch.zeros(8, dtype=torch.uint8)]},
    ],
)
def test_a_kind_that_there_is_not_is_refused(value):
    with pytest.raises(ValueError, match=r"does not know|an array of object|cannot reshape"):
        restore_state(value)


# -- in a run ---------------------------------------------------------------------------------------------------------


class Keeping(dl.Callback):
    """Keeps a value as its state, and takes back what it is given."""

    def __init__(self, value):
        super().__init__(order=dl.CallbackOrder.Metric)
        self.value, self.loaded = value, None

    def on_loader_end(self, runner):
        runner.loader_metrics["mean"] = np.mean([1.0, 2.0])

    def state_dict(self):
        return {"best": self.value}

    def load_state_dict(self, state):
        self.loaded = state["best"]


class Scaled(nn.Module):
    """Has a state of its own beside its weights."""

    def __init__(self, scale):
        super().__init__()
        self.linear, self.scale = nn.Linear(4, 3), scale

    def forward(self, image):
        return {"logits": self.linear(image)}

    def get_extra_state(self):
        return {"scale": self.scale}

    def set_extra_state(self, state):
        self.scale = state["scale"]


class Warm:
    """A schedule whose object torch saves by its attributes."""

    def __init__(self, value):
        self.value = value

    def __call__(self, epoch):
        return np.cos(epoch / 10)


@pytest.fixture
def go(make_items, tmp_path):
    def run(epochs, *, scale=1.0, warm=1.0, kept=1.0, lr=0.1, resume=None):
        model, keeping = Scaled(scale), Keeping(kept)
        optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
        items = [{**item, "image": item["image"].float()} for item in make_items(8)]
        runner = DictRunner()
        runner.train(
            model=model,
            criterion=nn.CrossEntropyLoss(),
            optimizer=optimizer,
            scheduler=LambdaLR(optimizer, Warm(warm)),
            loaders={"train": DataLoader(items, 4), "valid": DataLoader(items, 4)},
            callbacks=[keeping],
            num_epochs=epochs,
            logdir=str(tmp_path / "run"),
            resume=resume,
            cpu=True,
        )
        return keeping, model, optimizer

    return run


@pytest.mark.parametrize("value", [np.float64(0.5), np.float32(0.1), np.arange(3.0), Path("a"), deque([1], maxlen=2)])
def test_numpy_everywhere_is_saved_and_loaded(go, tmp_path, value):
    go(1, scale=value, warm=value, kept=value, lr=np.logspace(-2, -1, 3)[0])
    keeping, model, optimizer = go(2, resume=str(tmp_path / "run"))
    expected = value.item() if type(value) is np.float64 else value
    assert_same(keeping.loaded, expected)
    assert_same(model.scale, expected)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * np.cos(0.2))
    history = load_checkpoint(tmp_path / "run")["history"]
    assert_same(history[1]["valid"]["mean"], 1.5)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"scale": object()}, "model._extra_state.scale is a object"),
        ({"warm": threading.Lock()}, r"scheduler.lr_lambdas[0].value is a _thread.lock"),
        ({"kept": Colour.RED}, "callbacks.Keeping[0].best is a test_plain_values.Colour"),
    ],
)
def test_what_cannot_be_loaded_is_refused_before_anything_is_saved(go, tmp_path, options, place):
    with pytest.raises(UsageError, match=re.escape(place)):
        go(1, **options)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_an_entry_of_the_user_is_refused_when_it_is_given(tmp_path):
    with pytest.raises(UsageError, match=r"note is a test_plain_values\.Box, which a checkpoint cannot hold"):
        Checkpoints(tmp_path, extra={"note": Box(1)})
