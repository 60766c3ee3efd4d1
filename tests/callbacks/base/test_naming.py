"""Two heads of a model, each with callbacks of its own: a prefix keeps them apart, and what would hide is refused."""

import numpy as np
import pytest
import torch
from catalyst import dl
from catalyst.callbacks.metrics.confusion_matrix import ConfusionMatrixCallback
from catalyst.metrics import FunctionalBatchMetric
from kit import fit
from torch import nn

from assay import callbacks
from assay.callbacks import (
    BestWorstSamples,
    ClassificationReport,
    ConfusionMatrix,
    Embeddings,
    HParams,
    Metrics,
    NonFiniteGuard,
    PRCurves,
    RecallAtK,
    TimeMonitor,
    UsageError,
)
from assay.callbacks.classes.class_counts import ClassCounts
from assay.runner import DictRunner, LossTerm, Monitor

pytestmark = pytest.mark.filterwarnings("ignore:No ``I(Backward|Optimizer)Callback")  # the runner does it by itself

HEADS = {"shape": 3, "color": 4}
PREFIXED = sorted(
    name
    for name in callbacks.__all__
    if isinstance(getattr(callbacks, name), type) and issubclass(getattr(callbacks, name), dl.Callback)
    if not getattr(getattr(callbacks, name), "one_a_run", False)
    if name not in ("PredictionTable", "SampleHistory")  # which write files
)


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.heads = nn.ModuleDict({name: nn.Linear(32, classes) for name, classes in HEADS.items()})

    def forward(self, image):
        features = self.body(image)
        return {f"{name}_scores": head(features) for name, head in self.heads.items()}


class TwoHeadRunner(dl.Runner):
    """As an owner of a model with two heads writes it: own keys, and the loss of both."""

    def handle_batch(self, batch):
        scores = self.model(batch["pixels"])
        losses = {name: nn.functional.cross_entropy(scores[f"{name}_scores"], batch[name]) for name in HEADS}
        self.batch_metrics["total"] = sum(losses.values())
        self.batch = {**batch, **scores}
        if self.is_train_loader:
            self.engine.backward(self.batch_metrics["total"])
            self.optimizer.step()
            self.optimizer.zero_grad()


@pytest.fixture(scope="module")
def items():
    noise = torch.Generator().manual_seed(3)
    return [
        {
            "pixels": torch.randn(3, 12, 12, generator=noise),
            "shape": int(torch.randint(3, (), generator=noise)),
            "color": int(torch.randint(4, (), generator=noise)),
        }
        for _ in range(21)
    ]


def train(items, given, folder, num_epochs=2, runner=None, lr=0.0, loggers=None):
    torch.manual_seed(0)
    runner, model = runner or TwoHeadRunner(), TwoHeads()
    fit(
        runner, model, items, given, batch=8, lr=lr, criterion=None, epochs=num_epochs,
        loggers={"tensorboard": dl.TensorboardLogger(str(folder))} if loggers is None else loggers,
    )  # fmt: skip
    return runner, model


def of_head(kind, name, **options):
    return kind(num_classes=HEADS[name], output_key=f"{name}_scores", target_key=name, prefix=name, **options)


def test_two_heads_have_metrics_tables_and_pictures_of_their_own(items, tmp_path, read_events):
    kinds = [ConfusionMatrix, ClassificationReport, PRCurves, Metrics]
    options = {ClassificationReport: {"sink": lambda text: None}}
    given = [of_head(kind, name, **options.get(kind, {})) for kind in kinds for name in HEADS]
    runner, model = train(items, given, tmp_path)
    events, found = read_events(tmp_path / "valid"), runner.epoch_metrics["valid"]
    for name, classes in HEADS.items():
        counts = np.zeros((classes, classes), dtype=int)
        with torch.no_grad():
            for item in items:
                scores = model(item["pixels"][None])[f"{name}_scores"][0].tolist()
                counts[item[name], scores.index(max(scores))] += 1
        assert found[f"{name}/accuracy"] == pytest.approx(np.trace(counts) / len(items))
        misses = [1 - counts[c, c] / counts[c].sum() for c in range(classes)]
        assert found[f"{name}/false_negative_rate"] == pytest.approx(np.mean(misses))
        assert {f"2_confusion_matrix/{name}", f"5_predictions/roc/{name}"} <= set(events.Tags()["images"])
        rows = (
            events.Tensors(f"1_overview/report/{name}/text_summary")[-1]
            .tensor_proto.string_val[0]
            .decode()
            .splitlines()
        )
        support = [int(row.split("|")[-2]) for row in rows[2 : 2 + classes]]
        # The worst class comes first.
        assert sorted(support) == sorted(counts.sum(axis=1).tolist())
    assert "accuracy" not in found
    assert "2_confusion_matrix" not in events.Tags()["images"]


@pytest.mark.parametrize("kind", [ConfusionMatrix, ClassificationReport, PRCurves, Metrics])
def test_two_of_a_kind_without_a_prefix_are_refused_before_the_first_step(kind, items, tmp_path):
    given = [of_head(kind, name) for name in HEADS]
    for callback in given:
        callback.prefix = ""
    before = {key: value.clone() for key, value in TwoHeads().state_dict().items()}
    runner = TwoHeadRunner()
    name = kind.__name__
    says = (
        rf"^{name} and {name} \(callbacks '0' and '1'\) both write the \w+ '[\w/]+' of loader '\w+', .*: pass {name} a "
    )
    with pytest.raises(UsageError, match=says) as caught:
        train(items, dict(zip("01", given, strict=True)), tmp_path, runner=runner, lr=0.1)
    assert "\n" not in str(caught.value)
    assert runner.batch_step == 0
    torch.manual_seed(0)
    before = TwoHeads().state_dict()
    assert all(torch.equal(value, before[key]) for key, value in runner.model.state_dict().items())


def test_callbacks_of_different_loaders_do_not_collide(items, tmp_path, read_events):
    given = {
        loader: dl.ControlFlowCallbackWrapper(of_head(ConfusionMatrix, "shape"), loaders=loader)
        for loader in ("train", "valid")
    }
    train(items, given, tmp_path, num_epochs=1)
    for loader in ("train", "valid"):
        assert "2_confusion_matrix/shape" in read_events(tmp_path / loader).Tags()["images"]
    embed = {"output_key": "shape_scores", "target_key": "shape", "image_key": "pixels"}
    train(items, [Embeddings(loader=key, **embed) for key in ("train", "valid")], tmp_path / "b", num_epochs=1)


def test_two_within_wrappers_of_one_loader_collide(items, tmp_path):
    given = [dl.ControlFlowCallbackWrapper(of_head(ConfusionMatrix, "shape"), loaders="valid") for _ in "ab"]
    with pytest.raises(
        UsageError, match="both write the tag '2_confusion_matrix/most_confused/shape' of loader 'valid'"
    ):
        train(items, given, tmp_path)


STOCK = {
    "a metric": (
        lambda: dl.BatchMetricCallback(
            metric=FunctionalBatchMetric(lambda output, target: output.mean(), metric_key="accuracy"),
            input_key={"shape_scores": "output"},
            target_key={"shape": "target"},
        ),
        lambda: Metrics("accuracy", num_classes=3, output_key="shape_scores", target_key="shape"),
        "metric 'accuracy'",
    ),
    "a metric with a prefix": (
        lambda: dl.AccuracyCallback("shape_scores", "shape", num_classes=3, prefix="own/"),
        lambda: Metrics(
            {"accuracy01": _accuracy()}, output_key="shape_scores", target_key="shape", prefix="own"
        ),
        "metric 'own/accuracy01'",
    ),
    "an aggregated metric": (
        lambda: dl.MetricAggregationCallback("accuracy", metrics=["total"], mode="sum"),
        lambda: Metrics("accuracy", num_classes=3, output_key="shape_scores", target_key="shape"),
        "metric 'accuracy'",
    ),
    "a confusion matrix": (
        lambda: ConfusionMatrixCallback("shape_scores", "shape", num_classes=3, prefix="2_confusion_matrix"),
        lambda: ConfusionMatrix(num_classes=3, output_key="shape_scores", target_key="shape"),
        "tag '2_confusion_matrix'",
    ),
}  # fmt: skip


def _accuracy():
    from torchmetrics.classification import MulticlassAccuracy

    return MulticlassAccuracy(3)


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("stock_first", [True, False])
def test_a_stock_callback_that_writes_the_same_is_refused_and_named(name, stock_first, items, tmp_path):
    stock, own, taken = STOCK[name]
    pair = [stock(), own()] if stock_first else [own(), stock()]
    with pytest.raises(UsageError, match=rf"^(Metrics|ConfusionMatrix).* and .* both write the {taken}") as caught:
        train(items, pair, tmp_path)
    assert type(stock()).__name__ in str(caught.value)


def test_stock_callbacks_of_other_names_stand_beside_ours(items, tmp_path):
    keys = {"output_key": "shape_scores", "target_key": "shape"}
    given = [dl.AccuracyCallback("shape_scores", "shape", num_classes=3), Metrics("accuracy", num_classes=3, **keys)]
    runner, _ = train(items, given, tmp_path, num_epochs=1)
    found = runner.epoch_metrics["valid"]
    assert found["accuracy"] == pytest.approx(found["accuracy01"])


def test_a_metric_of_the_runners_own_is_not_written_over(items, tmp_path):
    class Own(TwoHeadRunner):
        def handle_batch(self, batch):
            super().handle_batch(batch)
            self.batch_metrics["accuracy"] = torch.tensor(0.5)

    keys = {"num_classes": 3, "output_key": "shape_scores", "target_key": "shape"}
    says = "Metrics writes the metric 'accuracy' of loader 'train', which the runner or another callback has written"
    with pytest.raises(UsageError, match=says):
        train(items, [Metrics("accuracy", **keys)], tmp_path, runner=Own())
    runner, _ = train(items, [Metrics("accuracy", prefix="ours", **keys)], tmp_path, num_epochs=1, runner=Own())
    assert "ours/accuracy" in runner.epoch_metrics["valid"]


def test_values_of_a_collection_are_told_apart_by_the_prefix(items, tmp_path):
    from torchmetrics import MetricCollection

    keys = {"output_key": "shape_scores", "target_key": "shape"}
    both = [Metrics(MetricCollection({"right": _accuracy()}), **keys) for _ in "ab"]
    with pytest.raises(UsageError, match="both write the metric 'right'"):
        train(items, both, tmp_path)
    both = [Metrics(MetricCollection({"right": _accuracy()}), prefix=name, **keys) for name in "ab"]
    runner, _ = train(items, both, tmp_path, num_epochs=1)
    assert {"a/right", "b/right"} <= runner.epoch_metrics["valid"].keys()


def test_a_second_one_of_the_whole_run_is_refused_without_advice_that_does_not_help(items, tmp_path):
    given = {"a": NonFiniteGuard(image_key="pixels"), "b": NonFiniteGuard(image_key="pixels")}
    with pytest.raises(UsageError, match="it is about the whole run, so give it one NonFiniteGuard"):
        train(items, given, tmp_path)


class SetsTargets:
    def set_target(self, index, target):
        raise NotImplementedError


@pytest.mark.parametrize("name", PREFIXED)
def test_every_callback_that_writes_takes_a_prefix(name):
    required = {"PseudoLabels": {"dataset": SetsTargets(), "loader": "valid"}}.get(name, {})
    needs_classes = issubclass(getattr(callbacks, name), ClassCounts) or name in ("Metrics", "ImageOverlap")
    options = {**required, **({"num_classes": 3} if needs_classes else {})}
    assert getattr(callbacks, name)(**options).named("x") == "x"
    callback = getattr(callbacks, name)(prefix="head", **options)
    assert callback.named("x") == "head/x"
    assert [*callback.tags("train"), *callback.tags("valid"), *callback.metrics_written("valid")]


@pytest.mark.parametrize("prefix", ["head/", "/head", "two words", "a//b", 3, None, "a:b"])
def test_a_prefix_that_is_no_name_is_refused(prefix):
    with pytest.raises(UsageError, match="prefix must be of letters"):
        TimeMonitor(prefix=prefix)


def test_the_prefix_of_recall_and_of_ids_reaches_names_and_titles(items, tmp_path, read_events):
    keys = {"output_key": "shape_scores", "target_key": "shape"}

    def first(batch):
        return batch["shape_scores"][:, 0]

    samples = [BestWorstSamples(first, image_key="pixels", prefix=name, k_samples=2, **keys) for name in "ab"]
    given = [RecallAtK(prefix="far", **keys), RecallAtK(**keys), *samples]
    runner, _ = train(items, given, tmp_path, num_epochs=1)
    found = runner.epoch_metrics["valid"]
    assert found["far/recall@1"] == found["recall@1"]
    tags = read_events(tmp_path / "valid").Tags()
    assert {"1_overview/worst/first/a", "1_overview/worst/first/b"} <= set(tags["images"])
    assert "1_overview/sample_ids/first/a/text_summary" in tags["tensors"]


def test_the_best_epoch_and_hparams_are_chosen_by_a_prefixed_metric(items, tmp_path, read_events):
    renamed = [{"image": item["pixels"], **item} for item in items]
    for item in renamed:
        del item["pixels"]
    terms = [LossTerm(f"{name}_scores", name, name=f"loss_{name}") for name in HEADS]
    torch.manual_seed(0)
    runner, model = DictRunner(losses=terms), TwoHeads()
    fit(
        runner, model, renamed,
        [*(of_head(Metrics, name) for name in HEADS), HParams("valid/color/accuracy", minimize=False)], batch=8,
        lr=0.5, epochs=3, logdir=str(tmp_path), hparams={"lr": 0.5}, valid_loader="valid",
        valid_metric="color/accuracy", minimize_valid_metric=False,
    )  # fmt: skip
    values = {epoch: of["valid"]["color/accuracy"] for epoch, of in runner.history.items()}
    assert Monitor.parse("valid/color/accuracy:max").best(runner.history) == max(values, key=values.get)
    best = read_events(tmp_path / "train").Scalars("10_best/valid/color/accuracy")
    assert best[-1].value == pytest.approx(max(values.values()))


def test_the_states_of_two_of_a_class_go_back_to_their_own_in_any_order(items, tmp_path):
    def make(names):
        return [of_head(PRCurves, name) for name in names]

    def run(folder, given, epochs, resume=None):
        renamed = [{("image" if key == "pixels" else key): value for key, value in item.items()} for item in items]
        runner, model = DictRunner(losses=[LossTerm(f"{n}_scores", n, name=f"loss_{n}") for n in HEADS]), TwoHeads()
        return fit(
            runner, model, renamed, given, batch=8, epochs=epochs, logdir=str(folder),
            **{} if resume is None else {"resume": str(resume)},
        )  # fmt: skip

    first = make(["shape", "color"])
    run(tmp_path / "a", first, 1)
    kept = [callback.state_dict() for callback in first]
    seen = []

    class Look(dl.Callback):
        def on_epoch_start(self, runner):
            seen.extend(
                callback.state_dict() for callback in runner.callbacks.values() if isinstance(callback, PRCurves)
            )

    run(tmp_path / "a", [*make(["color", "shape"]), Look(order=1)], 2, tmp_path / "a" / "checkpoints" / "last.pt")
    assert seen == [kept[1], kept[0]]
    assert set(kept[0]["valid"]) == {"0", "1", "2"}
