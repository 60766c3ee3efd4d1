"""A step of several batches or ranks, and the loss of an epoch, are what the criteria give for all samples at once."""

from functools import partial

import numpy as np
import pytest
import torch
from kit import fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import BestWorstBatches, BestWorstSamples, NonFiniteGuard
from assay.runner import DictRunner, LossTerm, TensorBoardLogger, UsageError, load_checkpoint
from assay.runner.data.batch_size import SizedBatch
from assay.runner.loop.optimizer_step import OptimizerStep
from assay.runner.loop.parts.read_ahead import kept
from assay.runner.recipe.loss_counts import counted_terms
from assay.runner.recipe.loss_means import LossMeans

F = nn.functional
CLASSES = 3
WEIGHTS = torch.tensor([1.0, 9.0, 0.0], dtype=torch.float64)


class Net(nn.Module):
    """Images [N, 2, 3, 3] to pixel logits, logits and a number."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.pixels = nn.Conv2d(2, CLASSES, 1).double()
            self.head = nn.Linear(18, CLASSES).double()

    def forward(self, image):
        maps, numbers = self.pixels(image), self.head(image.flatten(1))  # DDP wants all parameters in each output
        logits = numbers + maps.mean(dim=(2, 3))
        return {"pixels": maps + numbers[:, :, None, None], "logits": logits, "guess": logits[:, 0]}


def make_items(count=8, void=range(4, 8)):
    """Items whose later ones are nearly all void, so that batches count differently; sample 5 is all void."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 2, 3, 3, dtype=torch.float64, generator=generator)
    items = []
    for i, image in enumerate(images):
        mask = torch.randint(0, CLASSES, (3, 3), generator=generator)
        label, weight = i % CLASSES, torch.rand(3, 3, dtype=torch.float64, generator=generator)
        if i in void:
            mask.view(-1)[i % 3 + 1 :], weight[i % 3 :] = 255, 0
        if i == 5:
            mask[:], weight[:], label = 255, 0, -100
        items.append(
            {
                "image": image,
                "mask": mask,
                "label": label,
                "seen": weight,
                "number": float(i),
                "soft": torch.rand(CLASSES, dtype=torch.float64, generator=generator).softmax(0),
            }
        )
    return items


def masked(output, target):
    """Squares over what is not void, and 0 / 0 where all is."""
    counts = target != 255
    return ((output[:, 0] - target.clamp(max=2)) ** 2 * counts).sum() / counts.sum()


class Weighed(nn.Module):
    """Divides by the sum of a part of the batch, which comes with the target."""

    def forward(self, output, target):
        return (output[:, 0] ** 2 * target).sum() / target.sum()


TERMS = {
    "ignore_index": ([LossTerm("pixels", "mask")], nn.CrossEntropyLoss(ignore_index=255)),
    "class weights": ([LossTerm("pixels", "mask")], nn.CrossEntropyLoss(WEIGHTS, ignore_index=255)),
    "labels": ([LossTerm("logits", "label")], nn.CrossEntropyLoss(WEIGHTS)),
    "default ignore_index": ([LossTerm("logits", "label")], nn.CrossEntropyLoss()),
    "smoothed": ([LossTerm("pixels", "mask")], nn.CrossEntropyLoss(WEIGHTS, ignore_index=255, label_smoothing=0.2)),
    "soft": ([LossTerm("logits", "soft")], nn.CrossEntropyLoss(WEIGHTS)),
    "nll": ([LossTerm("pixels", "mask")], nn.NLLLoss(WEIGHTS, ignore_index=255)),
    "function": ([LossTerm("logits", "label")], F.cross_entropy),
    "partial": ([LossTerm("pixels", "mask")], partial(F.cross_entropy, weight=WEIGHTS, ignore_index=255)),
    "sum": ([LossTerm("pixels", "mask")], nn.CrossEntropyLoss(ignore_index=255, reduction="sum")),
    "sum of squares": ([LossTerm("logits", "soft")], nn.MSELoss(reduction="sum")),
    "samples": ([LossTerm("logits", "soft")], nn.MSELoss()),
    "given": ([LossTerm("pixels", "mask", count=lambda target: (target != 255).sum())], masked),
    "given by a key": ([LossTerm("pixels", "seen", count="seen")], Weighed()),
    "several": (
        [
            LossTerm("pixels", "mask", "pixels", 0.5),
            LossTerm("logits", "label", "labels", 2.0),
            LossTerm("guess", "number", "number", 0.1),
            LossTerm("pixels", "mask", "masked", 0.3, count=lambda target: (target != 255).sum()),
            LossTerm("logits", "soft", "sum", 0.01),
        ],
        {
            "pixels": nn.CrossEntropyLoss(WEIGHTS, ignore_index=255), "labels": nn.CrossEntropyLoss(),
            "number": nn.MSELoss(), "masked": masked, "sum": nn.L1Loss(reduction="sum"),
        },
    ),
}  # fmt: skip


def run(name, batch, accumulate_steps, epochs=2, items=None, **options):
    terms, criterion = TERMS[name]
    model, runner = Net(), DictRunner(losses=terms, accumulate_steps=accumulate_steps)
    fit(
        runner, model, {key: items or make_items() for key in ("train", "valid")}, batch=batch, lr=0.05,
        criterion=criterion, epochs=epochs, **options,
    )  # fmt: skip
    return {key: value.clone() for key, value in model.state_dict().items()}, runner.history


def at_once(name, epochs=2, items=None):
    """A plain loop over all samples as one batch, with the criteria as they are."""
    terms, criterion = TERMS[name]
    criteria = criterion if isinstance(criterion, dict) else {None: criterion}
    batch = next(iter(DataLoader(items or make_items(), len(items or make_items()))))
    model, history = Net(), {}
    optimizer = torch.optim.SGD(model.parameters(), 0.05)

    def losses():
        outputs = model(batch["image"])
        values = [criteria[term.criterion](outputs[term.output], batch[term.target]) for term in terms]
        total = sum(term.weight * value for term, value in zip(terms, values, strict=True))
        named = {term.label: value.item() for term, value in zip(terms, values, strict=True)}
        return total, {"loss": total.item(), **(named if len(terms) > 1 else {})}

    for epoch in range(1, epochs + 1):
        optimizer.zero_grad()
        total, trained = losses()
        total.backward()
        optimizer.step()
        history[epoch] = {"train": trained, "valid": losses()[1]}
    return model.state_dict(), history


def assert_equal(found, expected):
    (weights, history), (right, losses) = found, expected
    for key in right:
        torch.testing.assert_close(weights[key], right[key], rtol=0, atol=1e-12)
    for epoch, by_loader in losses.items():
        for loader, values in by_loader.items():
            assert history[epoch][loader] == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize(("batch", "steps"), [(8, 1), (4, 2), (1, 8), (3, 3)])
def test_accumulated_batches_equal_one_batch_of_all(name, batch, steps):
    assert_equal(run(name, batch, steps), at_once(name))


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize(("batch", "steps"), [(4, 1), (1, 4)])
def test_two_ranks_equal_one_batch_of_all(processes, name, batch, steps):
    for found in processes.run(2, run_on_rank, name, batch, steps):
        assert_equal(found, at_once(name))


def run_on_rank(name, batch, steps):
    return run(name, batch, steps)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_step_whose_every_target_is_void_changes_nothing(processes, ranks):
    for weights, history in processes.run(
        ranks, run_void, ["ignore_index", "class weights", "given", "given by a key"]
    ):
        assert all(torch.equal(weights[key], value) for key, value in Net().state_dict().items())
        assert history[1]["train"]["loss"] != history[1]["train"]["loss"]  # of nothing there is no mean


def run_void(names):
    items = make_items()
    for item in items:
        item["mask"][:], item["seen"][:] = 255, 0
    for name in names[1:]:
        run(name, 2, 2, epochs=1, items=items)
    return run(names[0], 2, 2, epochs=1, items=items)


def test_a_batch_of_which_nothing_counts_neither_ends_the_run_nor_is_a_best_batch(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr(
        BestWorstBatches, "_title", lambda self, runner, kind, metric, it: shown.update({kind: it.position}) or ["", ""]
    )
    monkeypatch.setattr(
        BestWorstSamples,
        "show",
        lambda self, runner, writer, ranking: shown.update(
            {end: [sample.sample_id for sample in getattr(ranking, end)] for end in ("best", "worst")}
        ),
    )
    keys = {"target_key": "mask", "output_key": "pixels"}
    callbacks = [NonFiniteGuard(folder=tmp_path), BestWorstBatches(**keys), BestWorstSamples(**keys)]
    with monkeypatch.context() as patch:
        patch.setattr(BestWorstBatches, "report", BestWorstBatches.report)
        run("ignore_index", 1, 1, epochs=1, callbacks=callbacks,
            loggers={"tensorboard": TensorBoardLogger(tmp_path / "tensorboard", log_every_steps=1)})  # fmt: skip
    assert 5 not in shown["best"] + shown["worst"]
    assert sorted(shown["best"]) == [0, 1, 2, 3, 4, 6, 7]
    assert shown["best"] == shown["worst"][::-1]


def test_an_epoch_that_an_older_version_began_goes_on_by_samples():
    means = LossMeans(counted_terms(*TERMS["several"]))
    means.load({"total": torch.arange(6.0, dtype=torch.float64), "weight": torch.tensor(4.0, dtype=torch.float64)})
    means.update(torch.full((5,), 2.0), [torch.tensor(9.0), torch.tensor(0.0), 4, torch.tensor(3.0), 1.0], 4)
    found = means.compute()
    labels = [term.label for term in TERMS["several"][0]]
    expected = [(first + 8) / 8 for first in range(1, 6)]
    assert [found[label] for label in labels] == pytest.approx(expected)
    assert found["loss"] == pytest.approx(sum(w * m for w, m in zip((0.5, 2, 0.1, 0.3, 0.01), expected, strict=True)))


@pytest.mark.parametrize("name", ["class weights", "several"])
def test_a_run_resumed_within_an_epoch_equals_a_quiet_one(name, tmp_path):
    from assay.runner import Checkpoints, Monitor

    class Interrupted(Exception):
        pass

    def stop(runner):
        raise Interrupted

    monitor = Monitor("valid", "loss", minimize=True)
    quiet = run(name, 2, 2, epochs=2)
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder, [monitor], every_n_steps=1)
    save = checkpoints.save_within_epoch
    checkpoints.save_within_epoch = lambda runner: save(runner) and runner.epoch_step == 2 and stop(runner)
    with pytest.raises(Interrupted):
        run(name, 2, 2, epochs=2, callbacks=[checkpoints])
    assert load_checkpoint(folder)["unfinished"] is not None
    resumed = run(name, 2, 2, epochs=2, callbacks=[Checkpoints(folder, [monitor])], resume=str(tmp_path))
    assert all(torch.equal(resumed[0][key], quiet[0][key]) for key in quiet[0])
    assert resumed[1] == quiet[1]


def test_batches_that_wait_are_no_views_of_a_buffer():
    buffer = torch.zeros(2, 18, dtype=torch.float64)

    def reuse(items):
        for row, item in zip(buffer, items, strict=True):
            row.copy_(item["image"].flatten())
        labels = torch.tensor([item["label"] for item in items])
        return {"image": buffer[: len(items)].view(-1, 2, 3, 3), "label": labels, "many": [buffer]}

    terms, criterion = TERMS["default ignore_index"]
    model, runner = Net(), DictRunner(losses=terms, accumulate_steps=4)
    fit(runner, model, {"train": make_items()}, batch=2, collate=reuse, lr=0.05, criterion=criterion)
    expected, _ = at_once("default ignore_index", epochs=1)
    torch.testing.assert_close(model.head.weight.detach(), expected["head.weight"], rtol=0, atol=1e-12)


def test_batches_that_the_loader_makes_anew_are_not_copied():
    loader = DataLoader(make_items(), 2)
    batch = next(iter(loader))
    assert kept(batch, loader) is batch


def test_batches_of_a_loader_of_ones_own_are_copied():
    class Passes(DataLoader):
        def __iter__(self):
            yield from super().__iter__()

    loader = Passes(make_items(), 2)
    batch = next(iter(loader))
    assert kept(batch, loader) is not batch


def test_batches_that_a_loader_fills_again_on_a_device_are_copied():
    buffer = {"image": torch.zeros(2, 3, device="meta"), "label": torch.zeros(2)}
    batch = kept(buffer, DataLoader(make_items(), 2, collate_fn=lambda items: buffer))
    for name, part in buffer.items():
        assert batch[name].untyped_storage()._cdata != part.untyped_storage()._cdata


def test_where_only_samples_count_nothing_is_read_ahead(monkeypatch):
    monkeypatch.setattr(OptimizerStep, "_read_groups", lambda self, batches, first: pytest.fail("read ahead"))
    run("samples", 2, 4)
    run("class weights", 2, 1)


@pytest.mark.parametrize(
    ("term", "criterion", "message"),
    [
        (LossTerm(count=lambda output, target: 1), F.mse_loss, "the count of .* asks for the output, but with accum"),
        (LossTerm(target="number", count=lambda target: target), F.mse_loss, "must be one number for a batch, got sh"),
        (LossTerm(count=lambda target: "all"), F.mse_loss, "must be one number for a batch, got a str"),
        (LossTerm(count="none"), F.mse_loss, "and the loader gives no 'none': let count name a part of its batches"),
        (LossTerm(target="pixels"), nn.CrossEntropyLoss(), "and the loader gives no 'pixels': let count name a part"),
        (LossTerm(target="number"), nn.MSELoss(reduction="none"), "must give one number per batch.*shape"),
        (LossTerm(target="number"), lambda output, target: 1.0, "must give one number per batch.*got a float"),
    ],
)
def test_what_cannot_be_counted_is_refused(term, criterion, message):
    items = [{"image": item["image"], "target": item["soft"], "number": item["soft"]} for item in make_items()]
    model, runner = Net(), DictRunner(losses=[term], accumulate_steps=2)
    with pytest.raises(UsageError, match=message):
        fit(runner, model, {"train": items}, batch=4, lr=0.05, criterion=criterion)


def test_a_count_may_ask_for_the_output_where_a_step_is_one_batch():
    TERMS["by output"] = ([LossTerm("pixels", "mask", count=lambda output, target: (target != 255).sum())], masked)
    try:
        assert_equal(run("by output", 8, 1), at_once("by output"))
    finally:
        del TERMS["by output"]


def test_a_count_of_another_kind_is_refused():
    with pytest.raises(UsageError, match=r"needs a count that is a key of the batch or a function, got 3\."):
        DictRunner(losses=[LossTerm(count=3)])


def test_arrays_and_tuples_of_a_batch_that_waits_are_copies_too():
    loader = DataLoader(make_items(), 2, collate_fn=lambda items: items)
    batch = SizedBatch({"array": np.zeros(2), "pair": (torch.zeros(2), "name")}, samples=1)
    array, pair = batch["array"], batch["pair"]
    waiting = kept(batch, loader)
    array[:], pair[0][:] = 1, 1
    assert type(waiting) is SizedBatch
    assert waiting.samples == 1
    assert waiting["array"].tolist() == waiting["pair"][0].tolist() == [0, 0]
    assert waiting["pair"][1] == "name"


class OwnTerm(LossTerm):
    """Weighs samples by a part of the batch, and asks its criteria, several by name."""

    def compute(self, criterion, batch):
        losses = criterion["own"](batch[self.output], batch["label"]) * batch["share"]
        return losses.mean()


def test_a_term_with_a_compute_of_its_own_scores_samples_by_it():
    generator = torch.Generator().manual_seed(0)
    batch = {"logits": torch.randn(4, 3, generator=generator), "label": torch.tensor([0, 2, 1, 2])}
    batch["share"] = torch.tensor([0.0, 1.0, 0.5, 2.0])
    (counted,) = counted_terms([OwnTerm()], {"own": nn.CrossEntropyLoss(reduction="none")})
    right = -batch["logits"].log_softmax(1)[range(4), batch["label"]] * batch["share"]
    assert torch.allclose(counted.sample_losses(batch, np.nan), right)


def test_a_term_that_the_model_computes_for_a_whole_batch_scores_no_sample():
    (counted,) = counted_terms([OwnTerm("loss_box")], None)
    with pytest.raises(UsageError, match=r"OwnTerm\('loss_box'\) gives no loss for a sample.*name another score"):
        counted.sample_losses({"loss_box": torch.tensor(1.0)}, np.nan)
