"""The backward pass and the optimizer's step of stock callbacks, against a plain loop."""

import pytest
import torch
from catalyst import dl
from stock_projects import make_loader, make_model, plain_training, train_stock, weights_of
from torch import nn


def callbacks_of(steps=1, **backward):
    return [
        dl.CriterionCallback(metric_key="loss", input_key="logits", target_key="targets"),
        dl.BackwardCallback(metric_key="loss", **backward),
        dl.OptimizerCallback(metric_key="loss", accumulation_steps=steps),
    ]


class Noted(dl.Callback):
    """Notes the metrics of every batch."""

    def __init__(self):
        super().__init__(order=dl.CallbackOrder.external)
        self.seen = []

    def on_batch_end(self, runner):
        self.seen.append({key: float(value) for key, value in runner.batch_metrics.items()})


def learn(steps, epochs, backward=None, stop_after=None):
    class Stops(Noted):
        def on_batch_end(self, runner):
            super().on_batch_end(runner)
            runner.need_early_stop = stop_after == runner.loader_batch_step

    model, noted = make_model(), Stops()
    train_stock(
        model, {"train": make_loader()}, callbacks=[*callbacks_of(steps, **(backward or {})), noted], epochs=epochs
    )
    return weights_of(model), noted.seen


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 100])
def test_batches_of_a_step_are_averaged_and_the_last_group_counts(revived, steps):
    ((weights, _),) = revived(1, learn, steps, 2)
    expected = make_model()
    plain_training(expected, list(make_loader()), steps=steps, epochs=2)
    assert weights == pytest.approx(weights_of(expected), abs=1e-12)


def test_a_group_that_is_broken_off_is_averaged_over_what_it_has(revived):
    ((weights, _),) = revived(1, learn, 3, 1, None, 5)
    expected = make_model()
    plain_training(expected, list(make_loader())[:5], steps=3)
    assert weights == pytest.approx(weights_of(expected), abs=1e-12)


@pytest.mark.parametrize("steps", [1, 3])
def test_gradients_are_clipped_once_per_step_and_their_norm_is_logged(revived, steps):
    clip = {"grad_clip_fn": nn.utils.clip_grad_norm_, "grad_clip_params": {"max_norm": 0.2}, "log_gradient": True}
    ((weights, seen),) = revived(1, learn, steps, 1, clip)
    expected = make_model()
    norms = plain_training(expected, list(make_loader()), steps=steps, clip=0.2)
    assert weights == pytest.approx(weights_of(expected), abs=1e-12)
    assert [batch["gradient/loss/norm"] for batch in seen if "gradient/loss/norm" in batch] == pytest.approx(norms)
    assert max(norms) > 0.2


def test_the_norm_is_logged_where_nothing_is_clipped(revived):
    ((_, seen),) = revived(1, learn, 1, 1, {"log_gradient": True})
    norms = plain_training(make_model(), list(make_loader()))
    assert [batch["gradient/loss/norm"] for batch in seen] == pytest.approx(norms)


def clip_in_optimizer():
    model = make_model()
    callbacks = callbacks_of()
    callbacks[-1] = dl.OptimizerCallback("loss", None, 1, nn.utils.clip_grad_value_, {"clip_value": 0.01})
    before = weights_of(model)
    train_stock(model, {"train": make_loader(4)}, callbacks=callbacks)
    return max(abs(a - b) for a, b in zip(before, weights_of(model), strict=True))


def test_an_optimizer_callback_clips_too(revived):
    assert revived(1, clip_in_optimizer) == [pytest.approx(0.1 * 0.01)]


def unlike_steps():
    model = make_model()
    optimizer = {key: torch.optim.SGD(model.parameters(), lr=0.1) for key in "ab"}
    callbacks = [*callbacks_of()[:2], dl.OptimizerCallback("loss", "a", 2), dl.OptimizerCallback("loss", "b", 3)]
    train_stock(model, {"train": make_loader()}, callbacks=callbacks, optimizer=optimizer)


def test_optimizers_of_one_loss_that_accumulate_unlike_are_refused(revived):
    with pytest.raises(Exception, match=r"accumulation_steps must be the same .* loss 'loss', got \[2, 3\]"):
        revived(1, unlike_steps)


def several_groups(kind):
    model, noted = make_model(), Noted()
    groups = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.3}]
    optimizer = kind(groups)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    callbacks = [*callbacks_of(), dl.SchedulerCallback(), noted]
    runner = train_stock(model, {"train": make_loader()}, callbacks=callbacks, optimizer=optimizer, scheduler=scheduler)
    return noted.seen[-1], runner.loader_metrics["lr/1"], runner.epoch_metrics["_epoch_"]


@pytest.mark.parametrize(("kind", "momenta"), [(torch.optim.SGD, 2), (torch.optim.Adagrad, 0)])
def test_all_groups_are_logged_with_a_momentum_where_there_is_one(revived, kind, momenta):
    ((batch, rate_of_loader, epoch),) = revived(1, several_groups, kind)
    assert {key: batch[key] for key in ("lr", "lr/1")} == {"lr": 0.1, "lr/1": 0.3}
    assert rate_of_loader == 0.3
    assert (epoch["lr"], epoch["lr/1"]) == (pytest.approx(0.05), pytest.approx(0.15))
    assert sum(key.startswith("momentum") for key in batch) == momenta
