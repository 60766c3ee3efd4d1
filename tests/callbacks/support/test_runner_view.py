"""Callbacks know a runner by ``runner_view`` alone, and a ``DictRunner`` has all that they ask of it there."""

import ast
import inspect
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from catalyst import dl
from kit import Named, fit
from stock_runs import train_stock
from torch import nn

import assay.callbacks
import assay.runner
from assay.callbacks.support import runner_view
from assay.callbacks.support.runner_view import RunnerView
from assay.runner import DictRunner

PACKAGES = [Path(package.__file__).parent for package in (assay.callbacks, assay.runner)]
FACTS = {name for name in vars(RunnerView) if not name.startswith("_") or name == "_logdir"}
LOSS = nn.CrossEntropyLoss(ignore_index=-100)  # may count nothing, so that the runner keeps what it counts
QUESTIONS = {  # each function of the module, with the facts that it is answered by
    "place_in_loader": (lambda runner: runner_view.place_in_loader(runner), {"place"}),
    "batch_of_run": (lambda runner: runner_view.batch_of_run(runner), set()),
    "positions_in_loader": (lambda runner: runner_view.positions_in_loader(runner, 2), {"place"}),
    "batches_in_loader": (lambda runner: runner_view.batches_in_loader(runner), {"loader_batches"}),
    "steps_in_loader": (lambda runner: runner_view.steps_in_loader(runner), {"accumulate_steps"}),
    "draws_order": (lambda runner: runner_view.draws_order(runner), set()),
    "samplers_of": (lambda runner: runner_view.samplers_of(runner, "train"), set()),
    "batch_size": (lambda runner: runner_view.batch_size(runner), {"place"}),
    "samples_of_keys": (lambda runner: runner_view.samples_of_keys(runner, ["image"]), {"place"}),
    "host_targets": (lambda runner: runner_view.host_targets(runner), {"host_targets"}),
    "kept_parts": (lambda runner: runner_view.kept_parts(runner, runner.batch), {"host_targets"}),
    "forward_of": (lambda runner: runner_view.forward_of(runner), {"forward"}),
    "input_keys": (lambda runner: runner_view.input_keys(runner), {"input_key"}),
    "loss_terms": (lambda runner: runner_view.loss_terms(runner), {"losses"}),
    "supervised_keys": (lambda runner: runner_view.supervised_keys(runner), {"place"}),
    "output_names": (lambda runner: runner_view.output_names(runner), {"place"}),
    "named_batch": (lambda runner: runner_view.named_batch(runner, runner.batch), {"place"}),
    "clipping_value": (lambda runner: runner_view.clipping_value(runner), {"clip_grad_value", "grad_norm_"}),
    "accumulated_batches": (lambda runner: runner_view.accumulated_batches(runner), {"accumulate_steps"}),
    "scheduler_moment": (lambda runner: runner_view.scheduler_moment(runner), {"scheduler_step", "place"}),
    "ema_decay_of": (lambda runner: runner_view.ema_decay_of(runner), {"ema_decay", "place"}),
    "is_resumed": (lambda runner: runner_view.is_resumed(runner), {"_resume"}),
    "validated_metric": (
        lambda runner: runner_view.validated_metric(runner),
        {"_valid_loader", "_valid_metric", "_minimize_valid_metric"},
    ),
    "precision_of": (lambda runner: runner_view.precision_of(runner), {"engine"}),
    "count_of_loss": (lambda runner: runner_view.count_of_loss(runner, "loss"), {"loss_counts_"}),
    "sample_losses_of": (lambda runner: runner_view.sample_losses_of(runner), {"sample_losses"}),
    "averaged_weights": (lambda runner: runner_view.averaged_weights(runner), {"ema_"}),
    "trains_criterion": (lambda runner: runner_view.trains_criterion(runner), {"place"}),
    "gradient_hooks_of": (lambda runner: runner_view.gradient_hooks_of(runner), {"register_gradient_hook"}),
    "clipping_norm": (lambda runner: runner_view.clipping_norm(runner), {"clip_grad_norm", "grad_norm_"}),
    "norm_before_clipping": (lambda runner: runner_view.norm_before_clipping(runner), {"grad_norm_"}),
    "loss_scale": (lambda runner: runner_view.loss_scale(runner), {"engine"}),
    "history_of": (lambda runner: dict(runner_view.history_of(runner)), {"history"}),
    "logdir_of": (lambda runner: runner_view.logdir_of(runner), {"_logdir"}),
    "folder_in_run": (lambda runner: runner_view.folder_in_run(runner, None, "files", "Tester"), {"_logdir"}),
    "is_evaluation": (
        lambda runner: runner_view.is_evaluation(runner), {"_valid_loader", "_valid_metric", "_logdir", "_loggers"},
    ),
    "attributes_of": (lambda runner: runner_view.attributes_of(runner), set()),
    "seeds_items": (lambda runner: runner_view.seeds_items(runner), {"place"}),
    "given_loaders": (lambda runner: runner_view.given_loaders(runner), {"_loaders"}),
    "loaders_of": (lambda runner: runner_view.loaders_of(runner), {"loaders"}),
    "criterion_of": (lambda runner: runner_view.criterion_of(runner), {"criterion"}),
    "callbacks_of": (lambda runner: runner_view.callbacks_of(runner), {"callbacks"}),
}  # fmt: skip


class WatchedRunner(DictRunner):
    """Notes which of its attributes are asked for, and which of them there are."""

    noting = None

    def __getattribute__(self, name):
        noting = type(self).noting
        if noting is None or name.startswith("__"):
            return super().__getattribute__(name)
        noting[name] = False
        value = super().__getattribute__(name)
        noting[name] = True
        return value

    @classmethod
    @contextmanager
    def notes(cls):
        cls.noting = {}
        try:
            yield cls.noting
        finally:
            cls.noting = None


class Asking(dl.Callback):
    """Asks all questions in the second step of the second epoch."""

    def __init__(self):
        super().__init__(order=dl.CallbackOrder.External)
        self.answers, self.notes = {}, {}

    def on_batch_end(self, runner):
        if not runner.is_train_loader or runner.epoch_step < 2 or runner.loader_batch_step < 2:
            return
        for name, (ask, _) in QUESTIONS.items():
            if isinstance(runner, WatchedRunner):
                with runner.notes() as self.notes[name]:
                    self.answers[name] = ask(runner)
            elif name not in ("norm_before_clipping", "folder_in_run"):  # there is none to ask for
                self.answers[name] = ask(runner)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    items = [{"image": torch.randn(4), "target": i % 3} for i in range(10)]
    asking, model = Asking(), Named(nn.Linear(4, 3))
    fit(
        WatchedRunner(clip_grad_norm=1.0, ema_decay=0.9, accumulate_steps=2), model, {"train": items}, [asking],
        batch=2, criterion=LOSS, epochs=2, logdir=str(folder / "run"),
    )  # fmt: skip
    return asking, folder / "run"


def test_each_function_of_the_module_is_a_question():
    functions = inspect.getmembers(runner_view, inspect.isfunction)
    own = {name for name, part in functions if part.__module__ == runner_view.__name__ and not name.startswith("_")}
    assert own == QUESTIONS.keys()


def test_each_fact_of_the_protocol_answers_a_question():
    assert set().union(*(facts for _, facts in QUESTIONS.values())) >= FACTS


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_dict_runner_answers_by_itself(asked, name):
    asking, _ = asked
    assert QUESTIONS[name][1] <= asking.notes[name].keys()
    assert all(asking.notes[name].values()), (
        f"a DictRunner lacks {[key for key, has in asking.notes[name].items() if not has]}"
    )


def test_the_answers_of_a_dict_runner_are_those_of_its_step(asked):
    answers = asked[0].answers
    assert (answers["place_in_loader"].batch, answers["place_in_loader"].first_sample) == (5, 8)
    assert answers["positions_in_loader"] == range(8, 10)
    assert answers["batch_of_run"] == ("train", 2, 5)
    assert (answers["batches_in_loader"], answers["steps_in_loader"]) == (5, 3)
    assert answers["batch_size"] == answers["samples_of_keys"] == 2
    assert [term.label for term in answers["loss_terms"]] == ["loss_logits"]
    assert answers["input_keys"] == ["image"]
    assert answers["averaged_weights"].keys() == {""}
    assert answers["clipping_norm"] == 1.0
    assert answers["norm_before_clipping"] > 0
    assert list(answers["history_of"]) == [1]
    assert not answers["draws_order"] and len(answers["samplers_of"]) >= 2
    assert answers["folder_in_run"] == asked[1] / "files"
    assert answers["is_evaluation"] is False
    assert answers["loaders_of"] == ["train"]
    assert answers["criterion_of"] is LOSS
    assert (answers["accumulated_batches"], answers["ema_decay_of"], answers["scheduler_moment"]) == (2, 0.9, "epoch")


def test_the_defaults_hold_for_a_stock_runner():
    asking = Asking()
    train_stock([asking], {}, epochs=2)
    answers = asking.answers
    assert (answers["place_in_loader"].batch, answers["place_in_loader"].first_sample) == (3, 8)
    assert (answers["batches_in_loader"], answers["steps_in_loader"]) == (3, 3)
    assert answers["input_keys"] == ["features"]
    assert callable(answers["forward_of"])
    nothing = (
        "loss_terms", "count_of_loss", "sample_losses_of", "averaged_weights", "gradient_hooks_of", "clipping_norm",
        "loss_scale", "logdir_of",
    )  # fmt: skip
    assert [name for name in nothing if answers[name] is not None] == []
    assert answers["trains_criterion"] is False
    assert answers["history_of"] == {}
    assert answers["supervised_keys"] == ("logits", "targets", "loss")
    defaults = {
        "clipping_value": None, "accumulated_batches": 1, "scheduler_moment": None, "ema_decay_of": None,
        "is_resumed": False, "validated_metric": None, "precision_of": "fp32",
    }  # fmt: skip
    assert {name: answers[name] for name in defaults} == defaults


def looks_up(node):
    """Return whether a node of a module looks up attributes of a runner, or of its engine, by name."""
    of_runner = re.compile(r"(.*\.)?_?(runner|view)(\.engine)?")
    if isinstance(node, ast.Attribute):
        return node.attr == "__dict__" and of_runner.fullmatch(ast.unparse(node.value)) is not None
    known = {"getattr", "hasattr", "setattr", "delattr", "vars", "dir", "attrgetter"}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in known:
        return False
    return bool(node.args) and of_runner.fullmatch(ast.unparse(node.args[0])) is not None


def lookups(path):
    tree = ast.parse(path.read_text())
    # What stands in for a runner hands on whatever it is asked: that is no fact about it.
    handing_on = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "__getattr__"
        for inner in ast.walk(node)
    }
    return [node.lineno for node in ast.walk(tree) if looks_up(node) and id(node) not in handing_on]


def test_no_other_module_looks_up_attributes_of_a_runner():
    paths = [path for package in PACKAGES for path in package.rglob("*.py")]
    found = {str(path): lines for path in paths if (lines := lookups(path))}
    assert [Path(path).name for path in found] == ["runner_view.py"], found


STUB = """
from typing import Any
class Runner:
    def __init__(self, *args: Any, **options: Any) -> None: ...
def __getattr__(name: str) -> Any: ...
"""
CLAIM = """
from assay.callbacks.support.runner_view import RunnerView
from assay.runner.loop.dict_runner import DictRunner
view: RunnerView = DictRunner()
"""
CONFIG = """
[mypy]
ignore_missing_imports = true
follow_imports = skip
[mypy-assay.*]
follow_imports = silent
[mypy-catalyst.*]
follow_imports = silent
"""


@pytest.mark.long("has mypy look at all that the runner imports")
def test_mypy_finds_all_of_the_protocol_in_a_dict_runner(tmp_path):
    # Of a class with an untyped base mypy believes everything, so Catalyst's has a typed one here.
    stub = tmp_path / "path" / "catalyst"
    stub.mkdir(parents=True)
    (stub / "__init__.pyi").write_text("")
    (stub / "dl.pyi").write_text(STUB)
    ours = tmp_path / "path" / "assay"
    ours.mkdir()
    for package in PACKAGES:
        (ours / package.name).symlink_to(package)
    (tmp_path / "claim.py").write_text(CLAIM)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache", "claim.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"MYPYPATH": "path", "PATH": ""}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
