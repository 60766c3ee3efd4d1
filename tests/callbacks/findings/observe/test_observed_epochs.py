"""What an epoch shows is counted over all ranks, is what a loop over the samples counts, and stops no step."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from catalyst import dl
from host_reads import CountsSteps
from kit import Named, fit, make_stock_runner
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import Metrics, NonFiniteGuard
from assay.callbacks.findings.observe.training.epochs import EpochWatch
from assay.callbacks.findings.observe.training.features import FeatureWatch
from assay.runner import DictRunner, Engine, LossTerm


class Watch(dl.Callback):
    """Calls both watches as the callback of the findings does, and keeps the outputs that it sees itself."""

    def __init__(self, epochs=5, most=1000):
        super().__init__(order=100)
        self.epochs, self.features = EpochWatch(epochs), FeatureWatch(most=most)
        self.probes, self.found, self.pairs = [], {}, {}
        self.keys = None

    def on_loader_start(self, runner):
        self.epochs.on_loader_start(runner)
        self.features.on_loader_start(runner)

    def on_batch_start(self, runner):
        self.features.on_batch_start(runner)

    def on_batch_end(self, runner):
        self.epochs.on_batch_end(runner)
        self.features.on_batch_end(runner)
        if self.keys:
            pair = tuple(runner.batch[key].detach().clone() for key in self.keys)
            self.pairs.setdefault((runner.epoch_step, runner.loader_key), []).append(pair)

    def on_loader_end(self, runner):
        self.epochs.on_loader_end(runner)
        self.features.on_loader_end(runner)

    def on_epoch_end(self, runner):
        self.probes.append(self.epochs.probe(runner))
        self.found |= self.features.probes()


def keeps(*keys):
    watch = Watch()
    watch.keys = keys
    return watch


def make_items(count, image="image", target="target", label=lambda i: i % 3, shape=(6,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        {image: torch.randn(shape, generator=generator), target: label(i), "sample_id": f"s{seed}-{i}"}
        for i in range(count)
    ]


def plain_net(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs))


def train(watch, *, model=None, items=make_items, train=22, valid=9, runner=None, callbacks=(), epochs=2, **options):
    data = {"train": items(train), "valid": items(valid, seed=1)}
    runner = runner or DictRunner()
    return fit(runner, model or Named(plain_net()), data, [*callbacks, watch], batch=4, epochs=epochs, **options)


def counted(values, classes):
    totals = [0] * classes
    for value in values:
        totals[int(value)] += 1
    return totals


@pytest.mark.parametrize("stock", [False, True])
def test_classes_are_counted_as_a_loop_counts_them(stock):
    if stock:
        watch = keeps("scores", "targets")
        items = {key: make_items(n, "features", "targets") for key, n in (("train", 22), ("valid", 9))}
        fit(make_stock_runner(), plain_net(), items, [watch], batch=4, epochs=2)
    else:
        watch = keeps("logits", "target")
        train(watch)
    assert [probe.epoch for probe in watch.probes] == [1, 2]
    for probe in watch.probes:
        assert probe.label_counts.keys() == probe.prediction_counts.keys() == {"train", "valid"}
        for key in ("train", "valid"):
            pairs = watch.pairs[probe.epoch, key]
            labels = [label for _, target in pairs for label in target.tolist()]
            predicted = [max(range(3), key=row.__getitem__) for output, _ in pairs for row in output.tolist()]
            assert probe.label_counts[key].tolist() == counted(labels, 3)
            assert probe.prediction_counts[key].tolist() == counted(predicted, 3)
        assert (probe.steps, probe.non_finite_steps, probe.scales, probe.clipped) == (6, 0, None, None)
        assert probe.metrics["train"]["loss"] > 0


def test_metrics_are_those_of_the_run():
    watch = Watch()
    runner = train(watch, callbacks=[Metrics(["accuracy"], num_classes=3)])
    assert [probe.metrics for probe in watch.probes] == [runner.history[1], runner.history[2]]


def test_only_the_first_epochs_are_watched():
    watch = Watch(epochs=2)
    train(watch, epochs=4)
    assert [probe and probe.epoch for probe in watch.probes] == [1, 2, None, None]


def test_a_single_label_counts_no_and_yes():
    watch = keeps("logits", "target")
    train(
        watch, model=Named(plain_net(1)), criterion=nn.BCEWithLogitsLoss(),
        items=lambda n, seed=0: make_items(n, label=lambda i: torch.tensor([float(i % 4 == 0)]), seed=seed),
    )  # fmt: skip
    pairs = watch.pairs[1, "train"]
    assert watch.probes[0].label_counts["train"].tolist() == counted([t for _, it in pairs for t in it], 2)
    assert watch.probes[0].prediction_counts["train"].tolist() == counted([o > 0 for it, _ in pairs for o in it], 2)


def test_several_labels_are_counted_one_by_one():
    watch = keeps("logits", "target")
    labels = lambda i: torch.tensor([float(i % 2), float(i % 5 == 0), 0.0])  # noqa: E731
    train(
        watch, criterion=nn.BCEWithLogitsLoss(), items=lambda n, seed=0: make_items(n, label=labels, seed=seed)
    )  # fmt: skip
    pairs = watch.pairs[2, "valid"]
    for column in range(3):
        true = sum(float(row[column]) for _, it in pairs for row in it)
        assert watch.probes[1].label_counts["valid"][column] == true
        assert watch.probes[1].prediction_counts["valid"][column] == sum(
            float(r[column]) > 0 for o, _ in pairs for r in o
        )


def test_masks_are_counted_without_what_does_not_count():
    def items(count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        masks = torch.randint(0, 4, (count, 5, 5), generator=generator)
        masks[masks == 3] = 255
        return [{"image": torch.randn(2, 5, 5, generator=generator), "target": mask} for mask in masks]

    watch = keeps("logits", "target")
    model = Named(nn.Conv2d(2, 3, 1))
    train(watch, model=model, items=items, criterion=nn.CrossEntropyLoss(ignore_index=255))
    pairs = watch.pairs[1, "valid"]
    true = [int(label) for _, target in pairs for label in target.flatten() if label != 255]
    assert watch.probes[0].label_counts["valid"].tolist() == counted(true, 3)
    predicted = [
        int(output[sample, :, row, column].argmax())
        for output, target in pairs
        for sample, row, column in (target != 255).nonzero().tolist()
    ]
    assert watch.probes[0].prediction_counts["valid"].tolist() == counted(predicted, 3)


def test_large_masks_are_thinned_alike():
    def items(count, seed=0):
        mask = torch.zeros(300, 300, dtype=torch.int64)
        mask[:, 150:] = 1
        return [{"image": F.one_hot(mask, 2).permute(2, 0, 1).float() * 9, "target": mask}] * count

    model = Named(nn.Conv2d(2, 2, 1))
    with torch.no_grad():
        model.layer.weight.copy_(torch.eye(2)[:, :, None, None])
        model.layer.bias.zero_()
    watch = Watch()
    train(watch, model=model, items=items, train=4, valid=4, epochs=1, lr=0.0)
    labels, predictions = watch.probes[0].label_counts["train"], watch.probes[0].prediction_counts["train"]
    assert labels.tolist() == predictions.tolist()
    assert 10_000 < labels.sum() <= 1 << 16
    assert labels[0] == pytest.approx(labels[1], rel=0.05)


def embedding_loss(output, target):
    return output.pow(2).mean()


@pytest.mark.parametrize("criterion", [embedding_loss, nn.MSELoss()])
def test_what_is_no_class_for_certain_is_not_counted(criterion):
    label = (lambda i: i % 3) if criterion is embedding_loss else (lambda i: torch.randn(3))
    watch = Watch()
    train(watch, criterion=criterion, items=lambda n, seed=0: make_items(n, label=label, seed=seed))
    assert {tuple(probe.label_counts) for probe in watch.probes} == {()}
    assert watch.found == {}


def test_a_metric_tells_the_classes_that_a_runner_of_ones_own_does_not():
    class Own(dl.Runner):
        def handle_batch(self, batch):
            logits = self.model(batch["features"])
            loss = F.cross_entropy(logits, batch["targets"])
            self.batch = {**batch, "logits": logits}
            self.batch_metrics["loss"] = loss.detach()
            if self.is_train_loader:
                self.engine.backward(loss)
                self.optimizer.step()
                self.optimizer.zero_grad()

    items = {key: make_items(n, "features", "targets") for key, n in (("train", 20), ("valid", 9))}
    for callbacks, expected in (([dl.AccuracyCallback("logits", "targets", num_classes=3)], [7, 7, 6]), ([], None)):
        watch = Watch()
        fit(Own(), plain_net(), items, [*callbacks, watch], batch=4, criterion=None)
        counts = watch.probes[0].label_counts
        assert (counts["train"].tolist() if expected else dict(counts)) == (expected or {})
        assert watch.probes[0].steps == 5


pytestmark = pytest.mark.filterwarnings("ignore:No ``I:UserWarning")


def test_clipped_steps_have_a_share():
    seen = []

    class Norms(dl.Callback):
        def on_batch_end(self, runner):
            if runner.is_train_loader:
                seen.append(float(runner.grad_norm_))

    watch = Watch()
    train(watch, runner=DictRunner(clip_grad_norm=0.6), callbacks=[Norms(order=1)], epochs=1)
    assert 0 < sum(norm > 0.6 for norm in seen) < len(seen)
    assert watch.probes[0].clipped == pytest.approx(sum(norm > 0.6 for norm in seen) / len(seen))


@pytest.mark.parametrize("guarded", [False, True])
def test_broken_steps_are_counted(tmp_path, guarded):
    def items(count, seed=0):
        found = make_items(count, seed=seed)
        if seed == 0:
            found[5]["image"] = torch.full((6,), math.inf)
        return found

    watch = Watch()
    model = Named(nn.Linear(6, 3))
    guard = [NonFiniteGuard("skip", folder=tmp_path)] if guarded else []
    options = {"logdir": str(tmp_path / "run")} if guarded else {}
    train(watch, model=model, items=items, callbacks=guard, epochs=1, **options)
    # Without the guard the broken weights break all steps after it.
    assert watch.probes[0].non_finite_steps == (1 if guarded else 5)


def test_the_loss_scale_has_its_first_and_last_value():
    engine = Engine("cpu")
    engine.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    watch = Watch()
    train(watch, engine=engine, epochs=1)
    assert watch.probes[0].scales == (8.0, 64.0)


# -- features -------------------------------------------------------------------------------------------------------


def test_features_are_what_the_last_layer_is_given():
    watch = keeps("logits", "target")
    given = {"train": [], "valid": []}

    class Keep(dl.Callback):
        def on_loader_start(self, runner):
            layer = runner.model.layer[2]
            self.hook = layer.register_forward_hook(lambda _, inputs, __: given[runner.loader_key].append(inputs[0]))

        def on_loader_end(self, runner):
            self.hook.remove()

    train(watch, callbacks=[Keep(order=1)], epochs=1)
    for key, count in (("train", 22), ("valid", 9)):
        found = watch.found[key]
        features = torch.cat(given[key]).detach().numpy()
        assert np.array_equal(found.features, features)
        outputs = torch.cat([output for output, _ in watch.pairs[1, key]])
        assert found.labels.tolist() == [label for _, it in watch.pairs[1, key] for label in it.tolist()]
        assert found.predictions.tolist() == [max(range(3), key=row.__getitem__) for row in outputs.tolist()]
        shares = [max(math.exp(v) for v in row) / sum(math.exp(v) for v in row) for row in outputs.tolist()]
        assert found.probability == pytest.approx(shares, rel=1e-5)
        assert len(found.names) == count
    assert watch.found["valid"].names == tuple(f"s1-{i}" for i in range(9))


def test_few_samples_are_the_last_of_training_and_the_first_of_validation():
    watch = Watch(most=6)
    train(watch, epochs=1)
    assert watch.found["train"].names == tuple(f"s0-{i}" for i in range(16, 22))
    assert watch.found["valid"].names == tuple(f"s1-{i}" for i in range(6))


def test_positions_are_averaged_and_wide_features_thinned():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 700, 1), nn.Conv2d(700, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )  # fmt: skip
    watch, seen = Watch(), []
    layers[2].register_forward_hook(lambda layer, inputs, _: seen.append(inputs[0].detach()))
    train(watch, model=Named(layers), epochs=1, valid=4)
    expected = seen[-1].mean(dim=(2, 3))[:, ::2]
    assert watch.found["valid"].features.shape == (4, 350)
    assert np.allclose(watch.found["valid"].features, expected.numpy(), atol=1e-6)


def test_a_single_label_has_features_too():
    watch = Watch()
    label = lambda i: torch.tensor([float(i % 2)])  # noqa: E731
    train(
        watch, model=Named(plain_net(1)), criterion=nn.BCEWithLogitsLoss(), epochs=1,
        items=lambda n, seed=0: make_items(n, label=label, seed=seed),
    )  # fmt: skip
    found = watch.found["valid"]
    assert found.labels.tolist() == [i % 2 for i in range(9)]
    assert (found.probability >= 0.5).all()


def test_hooks_are_gone_and_the_second_epoch_is_left_alone():
    class Look(dl.Callback):
        def on_batch_end(self, runner):
            hooks = sum(len(part._forward_hooks) for part in runner.model.modules())
            assert (hooks > 0) == (runner.epoch_step == 1)

    watch, model = Watch(), Named(plain_net())
    train(watch, model=model, callbacks=[Look(order=90)])
    assert not any(part._forward_hooks for part in model.modules())
    assert watch.features.probes() == {}


@pytest.mark.parametrize("stock", [False, True])
def test_watching_changes_no_bit(stock):
    def run(callbacks):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))
        if stock:
            items = {key: make_items(n, "features", "targets") for key, n in (("train", 22), ("valid", 9))}
            fit(make_stock_runner(), net, items, callbacks, batch=4, epochs=2)
        else:
            fit(DictRunner(), Named(net), make_items(22), callbacks, batch=4, epochs=2)
        return [*net.state_dict().values(), torch.get_rng_state()]

    assert all(map(torch.equal, run([Watch()]), run([])))


class Counting(CountsSteps, DictRunner):
    pass


class CountingStock(CountsSteps, dl.SupervisedRunner):
    pass


@pytest.mark.parametrize("stock", [False, True])
def test_watching_reads_nothing_from_the_device_in_any_step(stock):
    def count(callbacks):
        if stock:
            runner = CountingStock(input_key="features", output_key="scores", target_key="targets", loss_key="loss")
            items = {"train": make_items(22, "features", "targets"), "valid": make_items(9, "features", "targets")}
            fit(runner, plain_net(), items, callbacks, batch=4, epochs=2)
        else:
            runner = Counting(clip_grad_norm=1.0, losses=[LossTerm()])
            fit(runner, Named(plain_net()), make_items(22), callbacks, batch=4, epochs=2)
        return runner.steps

    assert count([Watch(most=6)]) == count([])


def probes_of_rank(rank):
    watch = Watch()
    items = {"train": make_items(22), "valid": make_items(9, seed=1)}
    data = {key: DataLoader(of, 2) for key, of in items.items()}
    fit(DictRunner(), Named(plain_net()), data, [watch], engine=Engine("cpu"))
    return [{key: counts.tolist() for key, counts in watch.probes[0].label_counts.items()}, watch.probes[0].steps]


def test_ranks_count_together(rank_processes):
    from rank_processes import Ranks

    first, second = Ranks(rank_processes, 2).run(probes_of_rank)
    assert first == second
    assert first[0] == {"train": [8, 7, 7], "valid": [3, 3, 3]}
    assert first[1] == 6
