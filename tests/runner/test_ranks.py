"""Runs of one, two and three processes give the same answer."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from catalyst import dl
from kit import fit, read_events
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler, WeightedRandomSampler

from assay.callbacks import (
    BestWorstBatches,
    BestWorstSamples,
    ClassificationReport,
    ConfusionMatrix,
    GradientStats,
    Metrics,
    PRCurves,
    PredictionDistribution,
)
from assay.runner import BalancedSampler, DictRunner, Engine, UsageError
from assay.runner.recipe.early_stopping import EarlyStopping
from assay.runner.recipe.monitor import Monitor
from assay.runner.saving.loggers import read_metrics

CLASSES = 3
COUNTS = [21, 250, 251, 2]


class Net(nn.Module):
    """Images [N, 1, 4, 4] to logits; no layer couples the samples of a batch, unless it is to."""

    def __init__(self, normalize=False):
        super().__init__()
        self.body = nn.Linear(16, 8)
        self.norm = nn.BatchNorm1d(8) if normalize else nn.Identity()
        self.head = nn.Linear(8, CLASSES)

    def forward(self, image):
        return {"logits": self.head(torch.tanh(self.norm(self.body(image.flatten(1)))))}


def make_net(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(**options)


def make_items(count, seed=0):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.normal(size=(count, 1, 4, 4)).astype(np.float32))
    targets = rng.integers(0, CLASSES, count)
    return [
        {"image": image, "target": int(target), "sample_id": f"s{i}"}
        for i, (image, target) in enumerate(zip(images, targets, strict=True))
    ]


def train(loaders, *, model=None, lr=0.1, epochs=1, precision="fp32", callbacks=(), runner=None, **options):
    model = model or make_net()
    runner = runner or DictRunner()
    return fit(
        runner, model, loaders, list(callbacks), engine=Engine("cpu", precision),
        optimizer=options.pop("optimizer", None) or torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9),
        epochs=epochs, **options,
    )  # fmt: skip


def weights_of(runner):
    return {name: value.clone() for name, value in runner.engine.unwrap_model(runner.model).state_dict().items()}


def assert_close(first, second, *, to):
    """Compare tensors by name, relative to the norm of each."""
    for name, value in second.items():
        assert (first[name] - value).norm() <= to * max(value.norm().item(), 1e-12), name


# -- diagnostics at fixed weights -------------------------------------------------------------------------------------


class NamedBatches(BestWorstBatches):
    """Keeps the place and the samples of the batches that won."""

    def report(self, runner, writer):
        self.winners = {}
        super().report(runner, writer)

    def _title(self, runner, kind, metric, candidate):
        self.winners[kind] = (candidate.position, list(candidate.samples["sample_id"]))
        return super()._title(runner, kind, metric, candidate)


class Keep(dl.Callback):
    """Keeps what the diagnostics found in each loader."""

    def __init__(self, batches, samples, matrix):
        super().__init__(order=10**6)
        self.batches, self.samples, self.matrix, self.found = batches, samples, matrix, {}

    def on_loader_end(self, runner):
        ranking = self.samples.ranking_
        self.found[runner.loader_key] = {
            "confusion": self.matrix.counts_.tolist(),
            "best": [sample.sample_id for sample in ranking.best],
            "worst": [sample.sample_id for sample in ranking.worst],
            "count": ranking.count,
            "batches": self.batches.winners,
        }


def look(folder, count, batch_size):
    batches, samples = NamedBatches("loss"), BestWorstSamples("loss", k_samples=6)
    named = {"num_classes": CLASSES}
    matrix = ConfusionMatrix(**named)
    keep = Keep(batches, samples, matrix)
    counted = [PRCurves(**named), PredictionDistribution(**named), ClassificationReport(**named)]
    items = make_items(count)
    runner = train(
        {"train": DataLoader(items, batch_size, shuffle=True), "valid": DataLoader(items, 8)},
        lr=0.0,
        logdir=folder,
        callbacks=[batches, samples, matrix, *counted, Metrics(["accuracy", "f1"], **named), keep],
    )
    return keep.found, runner.history[1], (runner.sample_step, runner.loader_sample_step, runner.batch_step)


COUNTED = ("2_confusion_matrix", "5_predictions/", "9_predicted_probability/", "1_overview/report")


VALUES = {"images": "encoded_image_string", "tensors": "tensor_proto", "histograms": "histogram_value"}


def what_was_written(folder):
    """Return the counted diagnostics of the valid loader by kind, tag and step."""
    events = read_events(Path(folder) / "valid")
    return {
        (kind, tag, event.step): getattr(event, VALUES[kind])
        for kind in VALUES
        for tag in events.Tags()[kind]
        if tag.startswith(COUNTED)
        for event in getattr(events, kind.capitalize())(tag)
    }


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("count", COUNTS)
def test_diagnostics_and_metrics_at_fixed_weights_are_those_of_one_process(processes, tmp_path, ranks, count):
    ((alone, metrics_alone, _),) = processes.run(1, look, str(tmp_path / "one"), count, 8 * ranks)
    answers = processes.run(ranks, look, str(tmp_path / "several"), count, 8)
    for found, metrics, steps in answers:
        assert found["valid"] == alone["valid"]
        for part in ("confusion", "best", "worst", "count"):
            assert found["train"][part] == alone["train"][part]
        for key, values in metrics_alone.items():
            assert metrics[key] == pytest.approx(values, abs=1e-6)
        assert metrics == answers[0][1]
        assert steps == (2 * count, count, answers[0][2][2])
    written = what_was_written(tmp_path / "one")
    assert {tag.split("/")[0] for _, tag, _ in written} >= {
        "2_confusion_matrix",
        "5_predictions",
        "9_predicted_probability",
        "1_overview",
    }
    assert what_was_written(tmp_path / "several") == written
    several, one = (read_metrics(tmp_path / name / "metrics.csv") for name in ("several", "one"))
    assert several == pytest.approx(one, abs=1e-6)


# -- gradients and weights --------------------------------------------------------------------------------------------

MODES = {  # (ranks, batch size, batches a step); a step has 16 samples, but the last
    "two ranks": (2, 8, 1),
    "accumulation": (1, 4, 4),
    "two ranks that accumulate": (2, 4, 2),
    "three ranks": (3, 8, 1),  # 24 samples a step
    "three ranks that accumulate": (3, 2, 4),
}


class Gradients(dl.Callback):
    """Keeps the gradients of every step."""

    def __init__(self):
        super().__init__(order=0)
        self.steps = []

    def on_experiment_start(self, runner):
        runner.register_gradient_hook(lambda: self.steps.append(self.of(runner)))

    def of(self, runner):
        model = runner.engine.unwrap_model(runner.model)
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def learn(count, batch_size, accumulate_steps=1, folder=None, precision="fp32", normalize=False):
    gradients = Gradients()
    runner = train(
        {"train": DataLoader(make_items(count), batch_size, shuffle=True)},
        model=make_net(normalize=normalize),
        runner=DictRunner(accumulate_steps=accumulate_steps),
        epochs=2,
        precision=precision,
        callbacks=[gradients, *([GradientStats(per_parameter=True)] if folder else [])],
        logdir=folder,
    )
    return gradients.steps, weights_of(runner), runner.history


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", COUNTS)
def test_gradients_and_weights_are_those_of_one_rank_with_the_whole_batch(processes, tmp_path, mode, count):
    ranks, batch_size, accumulate_steps = MODES[mode]
    whole = ranks * batch_size * accumulate_steps
    ((expected, weights, history),) = processes.run(1, learn, count, whole, 1, str(tmp_path / "one"))
    answers = processes.run(ranks, learn, count, batch_size, accumulate_steps, str(tmp_path / "several"))
    for steps, mine, losses in answers:
        assert len(steps) == len(expected) == 2 * math.ceil(count / whole)
        for step, reference in zip(steps, expected, strict=True):
            assert_close(step, reference, to=1e-5)
        assert_close(mine, weights, to=1e-6)
        for epoch in (1, 2):
            assert losses[epoch]["train"] == pytest.approx(history[epoch]["train"], abs=1e-6)
        assert all(torch.equal(mine[name], answers[0][1][name]) for name in mine)
    several, one = (gradient_statistics(tmp_path / name) for name in ("several", "one"))
    assert several.keys() == one.keys()
    for tag, values in one.items():
        norm = one[f"{tag.rpartition('/')[0]}/norm"]
        np.testing.assert_allclose(several[tag], values, rtol=0, atol=1e-5 * max(norm), err_msg=tag)


def gradient_statistics(folder):
    events = read_events(folder / "train")
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("9_gradients/")]
    assert len(tags) >= 4 * 6
    return {tag: [event.value for event in events.Scalars(tag)] for tag in tags}


@pytest.mark.parametrize("mode", ["two ranks", "accumulation", "two ranks that accumulate"])
def test_under_bf16_gradients_agree_within_what_the_format_loses(processes, mode):
    ranks, batch_size, accumulate_steps = MODES[mode]
    ((expected, _, _),) = processes.run(1, learn, 21, 16, 1, None, "bf16")
    ((exact, _, _),) = processes.run(1, learn, 21, 16)
    ((steps, _, _), *_) = processes.run(ranks, learn, 21, batch_size, accumulate_steps, None, "bf16")
    for step, reference in zip(steps, expected, strict=True):
        mine, whole = (torch.cat([part.flatten() for part in each.values()]) for each in (step, reference))
        assert (mine - whole).norm() <= 2**-6 * whole.norm()  # bf16 keeps 8 bits, and gradients of samples cancel
    assert any(not torch.equal(expected[0][name], exact[0][name]) for name in exact[0])


def learn_weighted(batch_size, kind):
    items = make_items(21)
    weighted = WeightedRandomSampler([1.0 + 5 * (i % 2) for i in range(21)], 37)
    sampler = weighted if kind == "weighted" else BalancedSampler([i % 4 == 0 for i in range(21)], samples=37)
    return weights_of(train({"train": DataLoader(items, batch_size, sampler=sampler)}, epochs=2))


@pytest.mark.parametrize("kind", ["weighted", "balanced"])
def test_a_sampler_that_favours_some_trains_alike_on_any_number_of_ranks(processes, kind):
    (expected,) = processes.run(1, learn_weighted, 24, kind)
    for ranks in (2, 3):
        for weights in processes.run(ranks, learn_weighted, 24 // ranks, kind):
            assert_close(weights, expected, to=1e-6)


class Unseeded(Sampler):
    """A user's sampler with a generator of its own, which every process seeds in another way."""

    def __init__(self, count):
        self.count, self.generator = count, np.random.default_rng()

    def __len__(self):
        return self.count

    def __iter__(self):
        return iter(self.generator.permutation(self.count).tolist())


class Seen(dl.Callback):
    """Keeps the ids of each loader's batches, with their places and the counters of the runner."""

    def __init__(self):
        super().__init__(order=0)
        self.ids, self.places, self.counters = {}, [], []

    def on_batch_end(self, runner):
        self.ids.setdefault((runner.epoch_step, runner.loader_key), []).extend(runner.batch["sample_id"])
        self.places.append((runner.place.batch, runner.place.first_sample))

    def on_loader_end(self, runner):
        self.counters.append((runner.batch_step, runner.sample_step, runner.loader_batch_step))
        self.counters.append((runner.loader_sample_step, runner.loader_batch_len, runner.loader_sample_len))


def read_unseeded():
    seen, items = Seen(), make_items(21)
    loaders = {"train": DataLoader(items, 4, sampler=Unseeded(21)), "valid": DataLoader(items[:5], 4)}
    train(loaders, epochs=2, callbacks=[seen])
    return seen.ids, seen.places, seen.counters


@pytest.mark.parametrize("ranks", [2, 3])
def test_all_ranks_take_their_part_of_one_order_though_a_sampler_draws_as_it_likes(processes, ranks):
    answers = processes.run(ranks, read_unseeded)
    everything = sorted(item["sample_id"] for item in make_items(21))
    for epoch in (1, 2):
        assert sorted(name for ids, _, _ in answers for name in ids.get((epoch, "train"), [])) == everything
        assert sorted(name for ids, _, _ in answers for name in ids.get((epoch, "valid"), [])) == sorted(
            f"s{i}" for i in range(5)
        )


@pytest.mark.parametrize("ranks", [2, 3])
def test_counters_and_places_are_those_of_all_ranks_together(processes, ranks):
    answers = processes.run(ranks, read_unseeded)
    assert len({str(counters) for _, _, counters in answers}) == 1
    rounds = math.ceil(21 / (4 * ranks))
    (_, _, counters) = answers[0]
    assert counters[0] == (ranks * rounds, 21, ranks * rounds)
    assert counters[1] == (21, rounds, 21)
    assert counters[2] == (ranks * (rounds + 1), 26, ranks)
    assert counters[3] == (5, 1, 5)
    last_train = {2: [(5, 16), (6, 19)], 3: [(4, 12), (5, 15), (6, 18)]}[ranks]
    expected = [*((batch, 4 * batch - 4) for batch in range(1, last_train[0][0])), *last_train, (1, 0), (2, 4)]
    assert sorted(place for _, places, _ in answers for place in places) == sorted(2 * expected)


# -- what the ranks send ----------------------------------------------------------------------------------------------


class AllReduces(dl.Callback):
    """Counts the gradient buckets that DDP sends."""

    def __init__(self):
        super().__init__(order=0)
        self.sent = 0

    def on_experiment_start(self, runner):
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        def counting(state, bucket):
            self.sent += 1
            return allreduce_hook(state, bucket)

        runner.model.register_comm_hook(None, counting)


def count_all_reduces(count, accumulate_steps):
    sent = AllReduces()
    runner = DictRunner(accumulate_steps=accumulate_steps)
    train({"train": DataLoader(make_items(count), 2)}, runner=runner, epochs=2, callbacks=[sent])
    return sent.sent


@pytest.mark.parametrize(("accumulate_steps", "steps"), [(1, 6), (2, 3), (4, 2), (8, 1)])
def test_gradients_are_sent_once_an_optimizer_step(processes, accumulate_steps, steps):
    # 21 samples on 2 ranks are 6 rounds: 4 + 4 + 4 + 4 + 4 + 1
    assert processes.run(2, count_all_reduces, 21, accumulate_steps) == [2 * steps] * 2


# -- layers that couple a batch ---------------------------------------------------------------------------------------


def normalize(count):
    seen = Seen()
    items = make_items(count)
    loaders = {
        "train": DataLoader(items, 8, shuffle=True),
        "valid": DataLoader(items[:3], 2),
        "infer": DataLoader(items[:1]),
    }
    runner = train(loaders, model=make_net(normalize=True), epochs=2, callbacks=[seen])
    return weights_of(runner), runner.history


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("count", [20, 26, 2])
def test_running_means_are_the_same_on_all_ranks_when_validation_begins(processes, ranks, count):
    (weights, history), *others = processes.run(ranks, normalize, count)
    for mine, other in others:
        assert all(torch.equal(mine[name], weights[name]) for name in weights)
        assert other == history
    model, items = make_net(normalize=True), make_items(count)[:3]
    model.load_state_dict(weights)
    logits = model.eval()(torch.stack([item["image"] for item in items]))["logits"]
    loss = F.cross_entropy(logits, torch.tensor([item["target"] for item in items]))
    assert history[2]["valid"]["loss"] == pytest.approx(loss.item(), abs=1e-6)


# -- decisions --------------------------------------------------------------------------------------------------------


class Own(dl.Callback):
    """Gives each rank metrics of its own: they get better on some ranks and worse on others."""

    def __init__(self):
        super().__init__(order=0)

    def on_loader_end(self, runner):
        rank = runner.engine.process_index
        runner.loader_metrics["own"] = (-1.0) ** rank * runner.epoch_step

    def on_epoch_end(self, runner):
        if runner.engine.process_index == 1 and runner.epoch_step == 6:
            runner.need_early_stop = True


def decide(folder, patience):
    model = make_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    runner = train(
        {"train": DataLoader(make_items(10), 4), "valid": DataLoader(make_items(3), 4)},
        model=model,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5),
        runner=DictRunner(scheduler_metric="valid/own"),
        epochs=9,
        logdir=folder,
        valid_loader="valid",
        valid_metric="own",
        minimize_valid_metric=True,
        callbacks=[Own(), *([EarlyStopping(Monitor("valid", "own", True), patience)] if patience else [])],
    )
    return runner.epoch_step, optimizer.param_groups[0]["lr"], runner.history, weights_of(runner)


@pytest.mark.parametrize(("patience", "epochs"), [(3, 4), (None, 6)], ids=["early stopping", "a callback of one rank"])
def test_all_ranks_decide_alike_though_each_has_a_metric_of_its_own(processes, tmp_path, patience, epochs):
    answers = processes.run(3, decide, str(tmp_path), patience)
    epoch, lr, history, weights = answers[0]
    assert epoch == epochs
    assert lr == pytest.approx(0.1 * 0.5 ** (epochs - 1))
    for other in answers[1:]:
        assert other[:3] == (epoch, lr, history)
        assert all(torch.equal(other[3][name], weights[name]) for name in weights)


# -- predicting -------------------------------------------------------------------------------------------------------


def predict(count):
    runner = DictRunner(make_net(), engine=Engine("cpu"))
    return [batch["logits"] for batch in runner.predict_loader(loader=DataLoader(make_items(count), 4))]


@pytest.mark.parametrize("ranks", [2, 3])
def test_each_rank_predicts_its_batches_without_padding(processes, ranks):
    (expected,) = processes.run(1, predict, 21)
    for rank, mine in enumerate(processes.run(ranks, predict, 21)):
        assert [batch.tolist() for batch in mine] == [batch.tolist() for batch in expected[rank::ranks]]


# -- torchrun ---------------------------------------------------------------------------------------------------------


@pytest.mark.long("starts a launcher with two ranks and a run beside them; ranks without a launcher agree above")
def test_a_run_under_torchrun_gives_the_metrics_of_one_process(tmp_path):
    base = [sys.executable, "-m"]
    options = ["train", "digits", "--epochs", "1", "--diagnostics", "off", "--threads", "1"]
    launch = [*base, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    runs = {"one": ([*base], "64"), "two": (launch, "32")}
    processes = {
        name: subprocess.Popen(
            [*start, "assay.runner", *options, "--batch-size", size, "--run-dir", str(tmp_path / name)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, (start, size) in runs.items()
    }
    for process in processes.values():
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    one, two = (read_metrics(tmp_path / name / "metrics.csv") for name in ("one", "two"))
    assert two == pytest.approx(one, abs=0.05)  # its layers couple a batch
    assert yaml.safe_load((tmp_path / "two" / "config.yaml").read_text())["epochs"] == 1


def too_few():
    try:
        train({"train": DataLoader(make_items(10), 8, drop_last=True)})
    except UsageError as error:
        return str(error)


def test_drop_last_that_leaves_no_round_is_refused_on_every_rank(processes):
    for message in processes.run(2, too_few):
        assert message.startswith("loader 'train' has no full round: 1 batches for 2 processes, and drop_last=True")


# -- ranks that were started with different settings ------------------------------------------------------------------


def differ(setting):
    """Train with another setting on rank 1; return what was said."""
    other = os.environ.get("RANK") == "1"
    lr = 0.2 if other and setting == "lr" else 0.1
    batch_size = 8 if other and setting == "batch_size" else 4
    items = make_items(15 if other and setting == "samples" else 16)
    model = make_net(normalize=other and setting == "model")
    runner = DictRunner(clip_grad_norm=1.0 if other and setting == "clip_grad_norm" else None)
    try:
        train({"train": DataLoader(items, batch_size)}, model=model, lr=lr, runner=runner)
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("lr", "lr of the optimizer is 0.1 on rank 0, 0.2 on rank 1"),
        ("batch_size", "batch_size of loader 'train' is 4 on rank 0, 8 on rank 1"),
        ("samples", "the number of samples of loader 'train' is 16 on rank 0, 15 on rank 1"),
        ("model", "parameters of the model is 163 on rank 0, 179 on rank 1"),
        ("clip_grad_norm", "clip_grad_norm is None on rank 0, 1.0 on rank 1"),
    ],
)
def test_a_setting_that_differs_between_ranks_is_refused_on_all_before_they_train(processes, setting, said):
    assert processes.run(2, differ, setting) == [f"the processes of a run must agree, and {said}: start all alike."] * 2
    assert processes.run(1, differ, setting) == [None]
