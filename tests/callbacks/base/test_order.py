"""Where a callback runs within an event stands in ``order`` alone, and that is what runs."""

import ast
from pathlib import Path

import pytest
import torch
from catalyst import dl
from sweep_parts import OURS, Net, make_loaders
from torch import nn

import assay.callbacks
import assay.experiments
import assay.runner
from assay.callbacks import BestWorstSamples, GradCAM, HParams, Metrics, NonFiniteGuard, OverheadBudget
from assay.callbacks.base import order
from assay.runner import Checkpoints, DictRunner, Engine, Progress
from assay.runner.loop.stop_on_signal import StopOnSignal

PACKAGES = [Path(package.__file__).parent for package in (assay.callbacks, assay.runner, assay.experiments)]
MODULES = [path for package in PACKAGES for path in package.rglob("*.py") if path.name != "order.py"]
PLACES = {name: number for name, number in vars(order).items() if name.isupper() and not name.startswith("_")}
PICKING = ("max", "min", "sum", "int")
RUNNING = [
    "OverheadBudget", "Metrics", "HParams", "NonFiniteGuard", "GradCAM", "BestWorstSamples", "Progress", "Checkpoints",
    "StopOnSignal",
]  # fmt: skip


def test_the_list_is_in_running_order():
    assert list(PLACES.values()) == sorted(PLACES.values())
    assert len(set(PLACES.values())) == len(PLACES)


def test_the_places_that_are_catalysts_have_its_numbers():
    known = dl.CallbackOrder
    assert (known.Internal, known.Metric, known.MetricAggregation) == (order.FIRST, order.METRICS, order.HPARAMS)
    assert (known.Optimizer, known.External) == (order.OPTIMIZER, order.DIAGNOSTICS)


def test_callbacks_run_in_the_order_of_the_list_however_they_are_given(tmp_path):
    torch.manual_seed(0)
    model, checkpoints = Net("logits"), Checkpoints(tmp_path / "checkpoints")
    given = [
        StopOnSignal(tmp_path, "test", checkpoints), checkpoints, Progress(show_bar=False), BestWorstSamples(),
        GradCAM(), NonFiniteGuard(), HParams("train/loss"), Metrics(["accuracy"], num_classes=3), OverheadBudget(),
    ]  # fmt: skip
    ran = []

    def note(callback):
        original = callback.on_epoch_end

        def noted(runner):
            ran.append(type(callback).__name__)
            original(runner)

        callback.on_epoch_end = noted

    for callback in given:
        note(callback)
    DictRunner().train(
        engine=Engine("cpu"), model=model, criterion=nn.CrossEntropyLoss(), callbacks=given, num_epochs=1,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1), loaders={"train": make_loaders(OURS)["train"]},
        hparams={"lr": 0.1}, logdir=str(tmp_path / "run"),
    )  # fmt: skip
    assert ran == RUNNING


def orders_of(tree):
    """Yield what is given as an order: as an argument by that name, as an attribute, or as a default."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "order")
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "attr", "") == "order":
            yield node.value
        elif isinstance(node, ast.FunctionDef):
            yield from defaults_of_orders(node)


def defaults_of_orders(function):
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [*zip(reversed(positional), reversed(arguments.defaults), strict=False)]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return [default for argument, default in pairs if argument.arg == "order" and default is not None]


def first_arguments_of_callbacks(tree):
    """Yield what the constructors of callbacks hand on as their first argument, which is the order."""
    bases = {"dl.Callback", "Named", "Diagnostic"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and bases & {ast.unparse(base) for base in node.bases}:
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
                    yield from call.args[:1]


def computed(tree):
    """Return where an order is an operand, or an argument of a function that picks or adds up."""
    found = []
    for node in ast.walk(tree):
        operands = []
        if isinstance(node, ast.BinOp):
            operands = [node.left, node.right]
        elif isinstance(node, ast.UnaryOp | ast.AugAssign):
            operands = [node.operand if isinstance(node, ast.UnaryOp) else node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PICKING:
            operands = [part for argument in node.args for part in ast.walk(argument)]
        of_attribute = any(isinstance(part, ast.Attribute) and part.attr == "order" for part in operands)
        if of_attribute or any(isinstance(part, ast.Name) and part.id in PLACES for part in operands):
            found.append(node.lineno)
    return found


def test_no_module_computes_an_order_or_has_one_of_its_own():
    for path in MODULES:
        source = path.read_text()
        tree = ast.parse(source)
        given = {ast.unparse(value) for value in (*orders_of(tree), *first_arguments_of_callbacks(tree))}
        assert "CallbackOrder" not in source, path
        assert computed(tree) == [], path
        assert given <= {*PLACES, "order", "callback.order"}, path


@pytest.mark.parametrize(
    ("source", "is_found"),
    [("a.order = DIAGNOSTICS + 1", True), ("x(order=max(a.order, b.order))", True), ("x(order=PROGRESS)", False)],
)
def test_a_computed_order_is_found(source, is_found):
    assert bool(computed(ast.parse(source))) is is_found


class Steps(dl.IOptimizerCallback):
    pass


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ["first", "stepped", "a", "b", "last"]),
        (["a", "step", "b"], ["first", "a", "step", "stepped", "b", "last"]),
        (["step", "a", "wrapped"], ["first", "step", "a", "wrapped", "stepped", "last"]),
        ([], ["first", "stepped", "last"]),
    ],
)
def test_what_surrounds_the_callbacks_comes_first_after_the_step_and_last(names, expected):
    parts = {"a": dl.Callback(0), "b": dl.Callback(10_000), "step": Steps()}
    parts["wrapped"] = dl.ControlFlowCallbackWrapper(Steps(), epochs=1)
    callbacks = {name: parts[name] for name in names}
    marks = [{name: dl.Callback(50)} for name in ("first", "stepped", "last")]
    found = order.surround(callbacks, first=marks[0], after_step=marks[1], last=marks[2])
    assert list(found) == expected
    assert list(callbacks) == names
    assert all(found[name] is parts[name] for name in names)
