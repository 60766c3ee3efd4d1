"""Every exported callback, built from names alone: it runs, and writes what its docstring promises."""

import csv
import inspect
import re

import pytest
import torch
import yaml
from catalyst import dl
from forked import command
from kit import Keep, fit
from sweep_parts import CLASSES, OURS, STOCK, Net, make_loaders

from assay import callbacks
from assay.runner import DictRunner, Mixed

EPOCHS = 2
CALLBACKS = sorted(
    name
    for name in callbacks.__all__
    if inspect.isclass(getattr(callbacks, name)) and issubclass(getattr(callbacks, name), dl.Callback)
    # Of a detector, or a data set: see test_detections, test_pseudo_labels.
    if name not in ("BoxConfusion", "BoxCurves", "BoxMetrics", "PseudoLabels")
)
# Promised with an option, or where there is something to show: a loss scale in fp16, clipped steps, a broken batch.
GRADIENT_KINDS = ("min", "mean", "max", "std", "norm", "zeros", "non_finite", "update_ratio")
CONDITIONAL = {
    "OptimizerMonitor": {"9_optimizer/clipped_fraction", "9_optimizer/loss_scale", "9_optimizer/skipped_steps"},
    "GradientStats": {f"9_gradients/PARAMETER/{kind}" for kind in GRADIENT_KINDS},
    "NonFiniteGuard": {"0_findings/non_finite_batch", "9_optimizer/non_finite_steps"},
    "OverheadBudget": {"9_overhead/every_n_steps/NAME", "9_overhead/every_n_epochs/NAME"},
}
WITHOUT_TAGS = (
    "ImageOverlap", "Metrics", "NonFiniteGuard", "PredictionTable", "RecallAtK", "Report", "Results", "SampleHistory",
)  # fmt: skip
KINDS = ("image", "scalar", "text", "histogram", "pr_curve", "projector")
ROW = re.compile(rf"^(?:tag )?``(?P<tag>[a-z0-9][\w/]+)``,?\s+(?P<kind>{'|'.join(KINDS)}|)\b(?P<rest>.*)$", re.M)


def arguments_of(name, names, folder):
    """Return those of key names and class names that the callback takes."""
    known = inspect.signature(getattr(callbacks, name)).parameters
    given = {f"{part}_key": key for part, key in names.items()} | {"class_names": CLASSES}
    given |= {"folder": str(folder), "stop": False}  # the toys validate on what they train on, which is worthless
    return {argument: value for argument, value in given.items() if argument in known}


def promised(name):
    """Return (tag, kind) of the rows of the docstring's table that hold without an option."""
    rows = ROW.finditer(inspect.getdoc(getattr(callbacks, name)))
    kept = [row for row in rows if "=True" not in row["rest"] and (row["kind"] or "/" in row["tag"])]
    found = {(row["tag"], row["kind"] or "scalar") for row in kept}
    return {(tag, kind) for tag, kind in found if tag not in CONDITIONAL.get(name, ())}


def written(folder, read_events):
    """Return {kind: tags} over all event folders."""
    found = {kind: set() for kind in KINDS}
    configs = [path.read_text() for path in folder.rglob("projector_config.pbtxt")]
    found["projector"] = set(re.findall(r'tensor_name: "(\w+):\d+"', "".join(configs)))
    for events in {path.parent for path in folder.rglob("events.out.tfevents.*")}:
        tags = read_events(events).Tags()
        found["image"] |= set(tags["images"])
        found["scalar"] |= set(tags["scalars"])
        found["histogram"] |= set(tags["histograms"])
        found["text"] |= {tag.removesuffix("/text_summary") for tag in tags["tensors"]}
        found["pr_curve"] |= set(tags["tensors"])
    return found


def assert_kept(name, tags):
    for tag, kind in promised(name):
        pattern = re.sub(r"\b[A-Z]{3,}\b", "[^ ]+", tag)
        assert any(re.fullmatch(pattern, one) for one in tags[kind]), (name, kind, tag, tags[kind])


def train(kit, callbacks_by_name, folder):
    torch.manual_seed(0)
    if kit == "stock":
        names, model = STOCK, Net()
        runner = dl.SupervisedRunner(input_key="features", output_key="scores", target_key="targets", loss_key="loss")
        options = {"loggers": {"tensorboard": dl.TensorboardLogger(str(folder))}}
    else:
        names, model, runner, options = OURS, Net("logits"), DictRunner(), {"logdir": str(folder)}
    return fit(
        runner, model, make_loaders(names), callbacks_by_name, lr=0.01, epochs=EPOCHS, hparams={"lr": 0.01}, seed=1,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("kit", ["stock", "ours"])
@pytest.mark.parametrize("name", CALLBACKS)
def test_it_runs_alone_and_writes_what_its_docstring_promises(name, kit, tmp_path, read_events):
    callback = getattr(callbacks, name)(**arguments_of(name, STOCK if kit == "stock" else OURS, tmp_path / "tables"))
    runner = train(kit, {"one": callback}, tmp_path)
    assert_kept(name, written(tmp_path, read_events))
    if name == "Metrics":
        assert "accuracy" in runner.loader_metrics


@pytest.mark.parametrize("name", [name for name in CALLBACKS if name not in WITHOUT_TAGS])
def test_its_docstring_promises_at_least_one_tag(name):
    assert promised(name)


@pytest.mark.long("all callbacks in one run")
def test_all_of_them_run_together_from_a_config_of_catalyst(tmp_path, read_events):
    config = {
        "runner": {
            "_target_": "catalyst.dl.SupervisedRunner",
            "input_key": "features", "output_key": "scores", "target_key": "targets", "loss_key": "loss",
            "model": {"_var_": "model", "_target_": "sweep_parts.Net"},
        },
        "run": [
            {
                "_call_": "train",
                "engine": {"_target_": "assay.runner.Engine", "device": "cpu"},
                "criterion": {"_target_": "torch.nn.CrossEntropyLoss"},
                "optimizer": {
                    "_target_": "torch.optim.SGD",
                    "params": {"_var_": "model.parameters"},
                    "lr": 0.01,
                },
                "loaders": {"_target_": "sweep_parts.make_stock_loaders", "_mode_": "call"},
                "callbacks": {
                    name: {"_target_": f"assay.callbacks.{name}", **arguments_of(name, STOCK, tmp_path / "tables")}
                    for name in CALLBACKS
                },
                "loggers": {
                    "tensorboard": {"_target_": "catalyst.dl.TensorboardLogger", "logdir": str(tmp_path / "logs")}
                },
                "num_epochs": EPOCHS,
                "hparams": {"lr": 0.01},
                "seed": 1,
            }
        ],
    }  # fmt: skip
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    ran = command("-C", path, module="catalyst.contrib.scripts.run", cwd=tmp_path).result()
    assert ran.returncode == 0, ran.stderr[-3000:]
    tags = written(tmp_path / "logs", read_events)
    for name in CALLBACKS:
        assert_kept(name, tags)


@pytest.mark.long("all callbacks in one run")
def test_all_of_them_take_mixed_batches_of_training(tmp_path, read_events):
    """Targets are shares of classes in training, and class numbers in validation."""
    arguments = {name: arguments_of(name, OURS, tmp_path / "tables") for name in CALLBACKS}
    arguments["PredictionTable"]["loaders"] = ["train", "valid"]
    loaders = make_loaders(OURS)
    loaders["train"].collate_fn = Mixed(len(CLASSES), mixup=0.4, cutmix=1.0)
    seen = Keep(lambda runner: (list(runner.batch["sample_id"]), runner.batch["target"].argmax(1)), loader="train")
    runner = fit(
        DictRunner(), Net("logits"), loaders,
        {**{name: getattr(callbacks, name)(**of) for name, of in arguments.items()}, "seen": seen},
        lr=0.01, epochs=EPOCHS, hparams={"lr": 0.01}, seed=1, logdir=str(tmp_path / "run"),
    )  # fmt: skip
    tags = written(tmp_path / "run", read_events)
    for name in CALLBACKS:
        assert_kept(name, tags)
    # The table's class is that of the sample that it names: its share is the larger one.
    rows = list(csv.DictReader((tmp_path / "tables" / "train.csv").read_text().splitlines()))
    expected = {f"sample-{i}": CLASSES[i % 3] for i in range(24)}
    assert {row["sample_id"]: row["target"] for row in rows} == expected
    right = {row["sample_id"] for row in rows if row["target"] == row["prediction"]}
    assert runner.history[EPOCHS]["train"]["accuracy"] == pytest.approx(len(right) / 24)
    named = {one: int(target) for ids, targets in seen.kept for one, target in zip(ids, targets, strict=True)}
    assert named == {f"sample-{i}": i % 3 for i in range(24)}
