"""Rules on first steps, settings of the optimization and curves: faults are named, healthy twins are silent."""

from dataclasses import replace
from math import cos, nan, pi

import numpy as np
import pytest
from made_probes import found, loader

from assay.callbacks.findings.probe.epoch_probe import AverageProbe, EpochProbe
from assay.callbacks.findings.probe.finding import Finding
from assay.callbacks.findings.probe.model_probe import ModelProbe, ParameterProbe
from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.probe.rule import examine
from assay.callbacks.findings.probe.settings_probe import (
    CriterionProbe,
    GroupProbe,
    MonitorProbe,
    SettingsProbe,
    TermProbe,
)
from assay.callbacks.findings.probe.steps_probe import StepProbe, StepsProbe
from assay.callbacks.findings.rules import all_rules

RULES = {
    rule.name: rule for rule in all_rules()
    if ".rules.steps" in rule.find.__module__ or ".rules.curves" in rule.find.__module__
}  # fmt: skip
FALLING = np.linspace(2.3, 1.4, 30)


def settings(plan=(), lr=0.01, name="SGD", **options):
    """Return settings of 10 epochs of 50 steps."""
    group = {key: options.pop(key) for key in ("weight_decay", "momentum", "beta2") if key in options}
    return SettingsProbe(**{
        "epochs": 10, "steps_per_epoch": 50, "optimizer": name, "groups": (GroupProbe(lr, **group),),
        "lr_plan": tuple(plan), "scheduler": "LambdaLR" if len(plan) else "", "scheduler_step": "batch", **options,
    })  # fmt: skip


def steps(ratio=1e-3, losses=FALLING, lr=0.01, norm=1.0, made=None, **options):
    """Return the probe of steps whose updates are so large beside weights of norm 10."""
    found = [
        StepProbe(float(loss), norm, (lr,), {"fc.weight": 10 * ratio, "fc.bias": 0.1}, {"fc.weight": 10.0},
                  finite=bool(np.isfinite(loss)), **options)
        for loss in losses
    ]  # fmt: skip
    return Probe(settings=made or settings(lr=lr), steps=StepsProbe(tuple(found)))


def broken_by(inputs, losses):
    """Return steps of which the first broken one has samples that are not finite."""
    probe = steps(losses=losses)
    found = list(probe.steps.steps)
    first = next(place for place, loss in enumerate(losses) if loss != loss)
    found[first] = replace(found[first], broken=inputs)
    return replace(probe, steps=replace(probe.steps, steps=tuple(found)))


def epoch(number=1, train=1.0, valid=1.1, steps=200, **options):
    """Return an epoch of two loaders."""
    return EpochProbe(number, {"train": {"loss": train}, "valid": {"loss": valid}}, steps=steps, **options)


def by_epoch(plan):
    """Return 400 points of a plan of 500 steps, of which 10 epochs of 50 steps make one step each."""
    return [plan[index * 10 // 400] for index in range(400)]


COSINE = [0.5 + 0.5 * cos(pi * index / 400) for index in range(400)]
WARM_UP = [min(1.0, (index + 1) / 20) * factor for index, factor in enumerate(COSINE)]
ONE_CYCLE = [0.04 + 0.96 * index / 120 for index in range(120)] + [1 - index / 280 for index in range(280)]
HEALTHY = {
    "no schedule": Probe(settings=settings()),
    "cosine": Probe(settings=settings(COSINE, scheduler="CosineAnnealingLR")),
    "warm-up and cosine": Probe(settings=settings(WARM_UP)),
    "one cycle": Probe(settings=settings(ONE_CYCLE, scheduler="OneCycleLR")),
    "steps of ten": Probe(settings=settings([1.0] * 200 + [0.1] * 100 + [0.01] * 100)),
    "warm-up, then even": Probe(settings=settings([0.0, 0.2, 0.4, 0.6, 0.8] + [1.0] * 395)),
    "three steps of a warm-up": Probe(settings=settings([0.25, 0.5, 0.75], epochs=1, steps_per_epoch=3)),
    "restarts": Probe(settings=settings(COSINE[::4] * 4, scheduler="CosineAnnealingWarmRestarts")),
    "sgd of a resnet": Probe(settings=settings(lr=0.1, momentum=0.9, weight_decay=5e-4)),
    "adamw of a vit": Probe(settings=settings(lr=1e-3, name="AdamW", momentum=0.9, beta2=0.95, weight_decay=0.3)),
    "adam of a gan": Probe(settings=settings(lr=2e-4, name="Adam", momentum=0.0, beta2=0.9)),
    "lion": Probe(settings=settings(lr=1e-4, name="Lion", momentum=0.9, beta2=0.99, weight_decay=1.0)),
    "lion with a published decay": Probe(settings=settings(lr=3e-4, name="Lion", beta2=0.99, weight_decay=1.0)),
    "monitors": Probe(settings=settings(monitors=(
        MonitorProbe("valid", "accuracy", False), MonitorProbe("valid", "loss", True),
        MonitorProbe("valid", "dice_loss", True), MonitorProbe("valid", "hausdorff", True),
        MonitorProbe("valid", "map", False), MonitorProbe("valid", "score", True),
    ))),
    "clipped now and then": replace(steps(norm=3.0), settings=settings(clip_grad_norm=1.0)),
    "clipped far before Adam": replace(steps(norm=50.0), settings=settings(name="AdamW", clip_grad_norm=0.1)),
    "small batches, some of them easy": steps(0.1, losses=[1.4, 0.2, 1.9, 0.9, 1.2] * 6, made=settings(batch_size=2)),
    "a head on wide features": steps(0.8, losses=np.linspace(2.3, 0.9, 30), lr=1e-2),
    "usual steps": steps(),
    "fine-tuning": steps(2e-4, lr=1e-5),
    "slow fine-tuning": steps(2e-5, lr=1e-6),
    "warm-up from next to nothing": steps(1e-7, lr=1e-7, made=settings(WARM_UP, lr=1e-3)),
    "a large rate with normalization": steps(0.04, losses=[2.3, 3.5, 4.0, 3.0, 2.8, 2.5, 2.4, 2.2, 2.1, 2.0]),
    "rmsprop": steps(0.2, losses=np.linspace(2.3, 1.9, 30), lr=1e-3),
    "three steps": steps(losses=[2.3, 2.4, 2.2]),
    "a loss without a name": steps(losses=[nan] * 30),
    "a scaler that begins too high": steps(scale=65536.0, norm=np.inf),
    "accumulation": Probe(settings=settings(accumulate_steps=4), loaders={"train": loader("train", [], batches=20)}),
    "one batch": Probe(settings=settings(accumulate_steps=4), loaders={"train": loader("train", [], batches=1)}),
    "epochs": Probe(epochs=(epoch(), epoch(2, 0.8, 0.9))),
    "a short epoch": Probe(epochs=(epoch(steps=3, train=0.1, valid=9.0, label_counts={"valid": np.array([50, 50])}),)),
    "overfitting": Probe(epochs=(epoch(train=0.01, valid=0.5, label_counts={"valid": np.array([50, 50])}),)),
    "four steps that overshoot": Probe(epochs=(epoch(steps=4), epoch(2, 2.0, steps=4))),
    "a loss of two players": Probe(epochs=(epoch(), epoch(2, 2.0)), settings=settings(name="Adam, Adam")),
    "nothing seen": Probe(),
    "a trial of a long cosine": Probe(settings=settings(
        by_epoch(COSINE[:10]), scheduler="CosineAnnealingLR", scheduler_step="epoch", scheduler_length=400,
        lr_plans={"batch": tuple(COSINE), "epoch": tuple(by_epoch(COSINE[:10]))},
    )),
    "five epochs of warm-up": Probe(settings=settings(
        by_epoch([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1]), scheduler="LinearLR", scheduler_step="epoch",
        lr_plans={"batch": (0.2, 0.4, 0.6, 0.8) + (1.0,) * 396}, scheduler_length=5,
    )),
    "restarts after a warm-up": Probe(settings=settings(
        [0.1, 0.5, *COSINE[::4][:98], *COSINE[::4] * 3], scheduler="SequentialLR", scheduler_length=400,
    )),
    "a cosine that ends with the run, but for a step": Probe(settings=settings(
        [*COSINE, 0.01], scheduler="CosineAnnealingLR", scheduler_length=499,
    )),
    "AdamW with a usual decay and a rate that is too high": Probe(
        settings=settings(lr=0.5, name="AdamW", weight_decay=0.01)
    ),
    "an average that follows": Probe(settings=settings(), epochs=(epoch(average=AverageProbe("ema", 0.4)),)),
    "the first epoch of an average that follows in ten": Probe(
        settings=settings(), epochs=(epoch(average=AverageProbe("ema", 0.03)),)
    ),
    "an average that begins later": Probe(settings=settings(), epochs=(epoch(average=AverageProbe("swa", 0.0)),)),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_optimization_is_silent(name):
    examined = examine(RULES.values(), HEALTHY[name])
    assert [it.sentence for it in examined.findings] == []
    assert not any("failed" in why for why in examined.left_out.values()), examined.left_out


def probe_of(**options):
    """Return a probe of settings alone."""
    return Probe(settings=settings(**options))


def counted(plan, by_batch, unit="epoch", **options):
    """Return the probe of a schedule with its plans in both units."""
    plans = {unit: tuple(plan), "batch" if unit == "epoch" else "epoch": tuple(by_batch)}
    return probe_of(plan=plan, lr_plans=plans, scheduler_step=unit, **options)


SHORT_COSINE = [0.5 + 0.5 * cos(pi * index / 20) for index in range(400)]
COUNTS = {"label_counts": {"valid": np.array([50, 50])}}
FAULTS = [
    ("schedule-at-zero", probe_of(lr=0.0), "error", "learning rate is 0"),
    ("schedule-at-zero", probe_of(plan=[0.0] * 400), "error", "LambdaLR keeps the learning rate at 0 for the whole"),
    ("schedule-at-zero", probe_of(plan=[0.0] * 100 + [1.0] * 300), "warning", "the first 25% of the run"),
    ("endless-warmup", probe_of(plan=np.linspace(0.001, 0.2, 400).tolist()), "warning", "500 steps"),
    ("schedule-ends-early", probe_of(plan=[1.0] * 40 + [1e-5] * 360), "warning", "which steps once per batch"),
    ("schedule-swings", probe_of(plan=SHORT_COSINE, scheduler="CosineAnnealingLR"), "warning", "T_max"),
    ("heavy-weight-decay", probe_of(lr=0.1, weight_decay=0.1), "warning", "weight decay 0.1 of SGD"),
    ("heavy-weight-decay", probe_of(lr=1e-3, name="AdamW", weight_decay=10.0), "warning", "1.00% of each weight"),
    ("heavy-weight-decay", probe_of(lr=1e-3, name="Adam", weight_decay=1.0), "warning", "outweighs"),
    ("momentum-out-of-range", probe_of(momentum=0.999), "warning", "momentum of SGD is 0.999"),
    ("momentum-out-of-range", probe_of(name="Adam", momentum=0.9, beta2=0.1), "warning", "second beta of Adam is 0.1"),
    ("accumulation-beyond-epoch", Probe(settings=settings(accumulate_steps=64),
                                        loaders={"train": loader("train", [], batches=20)}), "warning", "64 batches"),
    ("monitor-direction", probe_of(monitors=(MonitorProbe("valid", "accuracy01", True),)), "warning", "'accuracy01'"),
    ("monitor-direction", probe_of(monitors=(MonitorProbe("valid", "loss", False),)), "warning", "is maximized"),
    ("tiny-clip", probe_of(clip_grad_norm=1e-4), "warning", "clip_grad_norm is 0.0001"),
    ("learning-rate-too-high", steps(2.2, lr=1.0), "warning", "learning rate 1 of SGD is too high"),
    ("learning-rate-too-high", steps(0.1, losses=[2.3, 4, 9, 20, 40, 60]), "warning", "the loss goes from 2.3 to"),
    ("learning-rate-too-high", steps(0.3, losses=[2.3, 9, 900, 9e9, nan, nan]), "error", "and breaks in 6 steps"),
    ("learning-rate-too-low", steps(1e-8, lr=1e-9), "warning", "learning rate 1e-09 of SGD is too low"),
    ("gradients-not-zeroed", steps(not_zeroed=True), "warning", "in 29 of 29 steps"),
    ("clipped-far", replace(steps(norm=50.0), settings=settings(clip_grad_norm=0.1)), "warning", "clip_grad_norm 0.1"),
    ("non-finite-steps", steps(losses=[2.3, 2.2, nan, nan, nan]), "warning", "in step 3 (3 of the first 5"),
    ("non-finite-steps", broken_by({"image": ("a", "b")}, [2.3, 2.2, nan, nan, nan]), "error",
     "'image' of samples of the training batch of step 3 holds NaN or infinity ('a' and 'b'), so that the loss"),
    ("non-finite-steps", broken_by({"image": ("a",)}, [2.3, 2.2, nan, 2.1, 2.0]), "warning", "infinity ('a')"),
    ("valid-at-chance", Probe(epochs=(epoch(train=0.1, valid=4.0, **COUNTS),)), "warning", "the loss of valid is 4"),
    ("one-class-predicted", Probe(epochs=(epoch(**COUNTS, prediction_counts={"valid": np.array([0, 100])}),)),
     "warning", "predicts class 1 for 100% of valid, where it is 50%"),
    ("broken-epoch", Probe(epochs=(epoch(train=nan, non_finite_steps=9),)), "warning", "loss of train is not finite"),
    ("falling-scale", Probe(epochs=(epoch(scales=(65536.0, 1.0)),)), "warning", "from 65536 to 1"),
    ("schedule-unit", counted(by_epoch([0.04 + index * 2e-4 for index in range(10)]), ONE_CYCLE, scheduler="OneCycleLR",
                              scheduler_length=500), "warning", "OneCycleLR is made for 500 steps and steps once per"),
    ("schedule-unit", counted(by_epoch(COSINE[:10]), COSINE, scheduler="CosineAnnealingLR", scheduler_length=500),
     "warning", "10 times in a run of 500 batches: the learning rate hardly falls"),
    ("schedule-unit", counted(by_epoch(COSINE[:10]), COSINE), "warning", "LambdaLR is counted in batches"),
    ("schedule-swings", probe_of(plan=[0.1, *SHORT_COSINE], scheduler="SequentialLR", scheduler_length=21), "warning",
     "SequentialLR is made for 21 steps and steps once per batch, 500 times"),
    ("schedule-swings", probe_of(plan=[0.5 + 0.5 * cos(pi * index / 10) for index in range(400)]), "warning",
     "rises again to 1, 20 times"),
    ("schedule-ends-early", counted([1.0] * 100 + [0.1] * 100 + [0.01] * 200, [1.0] * 400, "batch", scheduler="StepLR"),
     "warning", "below a fiftieth of its top for the last 50%"),
    ("endless-warmup", probe_of(plan=[0.01] * 15 + [0.035] * 15, epochs=2, steps_per_epoch=15, scheduler="LinearLR",
                                scheduler_step="epoch"), "warning", "LinearLR lasts for the whole run"),
    ("unmoved-average", Probe(settings=settings(), epochs=(epoch(average=AverageProbe("ema", 0.001)),)), "warning",
     "(the copy 'ema') that has hardly moved in 200 steps: at a decay of about 0.99999"),
    ("unmoved-average", Probe(settings=settings(epochs=3), epochs=(epoch(average=AverageProbe("", 0.1, 0.9999)),)),
     "warning", "at a decay of 0.9999 it will have gone 6% of the way"),
    ("rising-loss", Probe(epochs=(epoch(), epoch(2, 2.0))), "warning", "1 in epoch 1 and 2 in epoch 2"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "probe", "severity", "part"), FAULTS)
def test_a_fault_of_the_optimization_is_named(name, probe, severity, part):
    findings = found(RULES[name], probe)
    assert [it.severity for it in findings] == [severity]
    assert part in findings[0].sentence, findings[0].sentence


def test_weights_that_do_not_change_are_named():
    probe = steps()
    still = replace(probe.steps.steps[0], update={"fc.weight": 0.0, "fc.bias": 0.0})
    (one,) = found(RULES["weights-do-not-change"], replace(probe, steps=StepsProbe((still,) * 30)))
    assert (one.severity, "no weight has changed after 30 steps" in one.what) == ("error", True)
    waits = replace(still, lr=(0.0,))
    (one,) = found(RULES["weights-do-not-change"], replace(probe, steps=StepsProbe((waits,) * 30)))
    assert (one.severity, "the learning rate is 0" in one.what) == ("warning", True)
    assert not found(RULES["weights-do-not-change"], replace(probe, steps=StepsProbe((still,) * 3)))


def test_statistics_that_stand_still_are_named():
    moving = steps()
    (one,) = found(RULES["frozen-statistics"], replace(moving, steps=replace(moving.steps, buffers_moved=False)))
    assert "have not moved in 30 steps" in one.what
    frozen = replace(moving.steps, buffers_moved=False, modes=("bn",))
    assert not found(RULES["frozen-statistics"], replace(moving, steps=frozen))


def test_a_batch_that_is_not_learned_is_a_note():
    probe = steps()
    beside = [Finding("warning", "c", "d", rule="relu-before-loss")]
    stuck = replace(probe, steps=replace(probe.steps, memorized=(2.3, 2.29)))
    (one,) = examine([RULES["not-memorized"]], stuck, known=beside).findings
    assert (one.severity, "from 2.3 to 2.29" in one.what) == ("note", True)
    assert not found(RULES["not-memorized"], stuck)
    learned = replace(probe, steps=replace(probe.steps, memorized=(2.3, 1.0)))
    assert not examine([RULES["not-memorized"]], learned, known=beside).findings


def test_a_group_without_a_rate_is_named_unless_it_is_held_still_on_purpose():
    groups = (GroupProbe(0.01, parameters=("body.weight",)), GroupProbe(0.0, parameters=("head.weight", "head.bias")))
    made = settings(groups=groups)
    (finding,) = found(RULES["group-without-rate"], Probe(settings=made))
    assert finding.severity == "warning"
    assert "head.weight, head.bias is 0, while that of other parameters is 0.01" in finding.what
    still = replace(made, loaded=frozenset({"head.weight", "head.bias"}))
    assert not found(RULES["group-without-rate"], Probe(settings=still))
    assert not found(RULES["group-without-rate"], Probe(settings=settings()))


def two_groups(body, head, low, high, *, weight=None, losses=FALLING):
    """Return steps of a body and a head with their rates, whose updates are so large beside the initial weights."""
    groups = (GroupProbe(low, parameters=("body.weight",)), GroupProbe(high, parameters=("head.weight", "head.bias")))
    found = [
        StepProbe(float(loss), 1.0, (low, high), {"body.weight": 10 * body, "head.weight": head, "head.bias": 9.0},
                  {"body.weight": 10.0, "head.weight": 1.0})
        for loss in losses
    ]  # fmt: skip
    # As torch draws them: evenly.
    drawn = {"low": -0.1, "high": 0.1, "std": 0.0577} if weight is None else weight
    model = ModelProbe(tuple(
        ParameterProbe(name, shape, **drawn)
        for name, shape in (("body.weight", (30, 33)), ("head.weight", (4, 33)), ("head.bias", (4,)))
    ))  # fmt: skip
    return Probe(settings=settings(groups=groups, name="Adam"), steps=StepsProbe(tuple(found)), model=model)


def test_a_group_with_another_rate_is_named_with_its_layers():
    (finding,) = found(RULES["group-rate-too-high"], two_groups(0.01, 20.0, 2e-3, 2.0))
    assert "the learning rate 2 of group 1 ('head') is too high, 1,000 times that of other" in finding.what
    (finding,) = found(RULES["group-rate-too-high"], two_groups(8.0, 0.01, 0.2, 2e-3))
    assert "of group 0 ('body') is too high, 100 times" in finding.what
    (finding,) = found(RULES["group-rate-too-low"], two_groups(1e-5, 0.01, 2e-6, 2e-3))
    assert "the learning rate 2e-06 of group 0 ('body') is too low, 1,000 times below" in finding.what
    (finding,) = found(RULES["group-rate-too-low"], two_groups(0.01, 1e-5, 2e-3, 2e-6))
    assert "of group 1 ('head') is too low" in finding.what


@pytest.mark.parametrize(
    "probe",
    [
        two_groups(1e-4, 0.1, 1e-4, 1e-2),  # fine-tuning with a new head
        two_groups(1e-4, 0.4, 1e-5, 1e-3),
        two_groups(0.9, 0.9, 2.0, 2.0),  # both are too high, which is another rule's
        two_groups(1e-5, 0.01, 2e-5, 2e-3),  # a hundred times is usual
        two_groups(1e-5, 0.01, 2e-6, 2e-3, weight={"low": -0.4, "high": 0.5, "std": 0.0577}),  # trained before
        two_groups(0.9, 0.01, 0.02, 0.002),
    ],
)
def test_rates_that_suit_their_groups_are_no_news(probe):
    assert [it.sentence for it in examine([RULES["group-rate-too-high"], RULES["group-rate-too-low"]], probe).findings
            ] == []  # fmt: skip


def test_an_epoch_without_a_step_is_named():
    loaders = {"train": loader("train", [], batches=15)}
    (finding,) = found(
        RULES["no-optimizer-step"], Probe(settings=settings(), loaders=loaders, epochs=(epoch(steps=0),))
    )
    assert "no optimizer stepped in the 15 batches of train" in finding.what
    for healthy in (epoch(steps=15), epoch(steps=0, non_finite_steps=15), epoch(2, steps=0)):
        assert not found(RULES["no-optimizer-step"], Probe(settings=settings(), loaders=loaders, epochs=(healthy,)))


def test_what_a_runner_clips_by_itself_to_next_to_nothing_is_named():
    (finding,) = found(RULES["clipped-far"], steps(norm=1e-4))
    assert "have a norm of 0.0001 in each of the first 30 steps: the runner clips them" in finding.what
    weight = ModelProbe((ParameterProbe("fc.weight", (20, 20)),))
    some = [replace(step, grads={"fc.weight": 20e-7}, grad_norm=1e-5 * (1 + index))
            for index, step in enumerate(steps().steps.steps)]  # fmt: skip
    (finding,) = found(RULES["clipped-far"], replace(steps(), steps=StepsProbe(tuple(some)), model=weight))
    assert "have values of 1e-07 at the most" in finding.what
    assert not found(RULES["clipped-far"], steps(norm=1.0))
    small = [replace(step, grad_norm=1e-4 * (1 + 0.1 * index)) for index, step in enumerate(steps().steps.steps)]
    assert not found(RULES["clipped-far"], replace(steps(), steps=StepsProbe(tuple(small))))


def test_a_loss_that_is_maximized_is_named_and_a_score_is_not():
    def probe(kind, *, maximize=True, weight=1.0):
        term = TermProbe("loss", "logits", "target", weight, CriterionProbe("CrossEntropyLoss", kind))
        return Probe(settings=settings(groups=(GroupProbe(0.01, maximize=maximize),), terms=(term,)))

    (finding,) = found(RULES["maximized-loss"], probe("cross_entropy"))
    assert (finding.severity, "makes the loss (CrossEntropyLoss) larger" in finding.what) == ("error", True)
    for healthy in (probe("", weight=1.0), probe("cross_entropy", maximize=False), probe("mse", weight=-1.0)):
        assert not found(RULES["maximized-loss"], healthy)


def test_one_of_several_optimizers_that_never_steps_is_named_and_one_that_begins_later_is_not():
    loaders = {"train": loader("train", [], batches=200)}

    def probe(*made, epochs=10, steps=200):
        seen = [epoch(number, steps=steps, steps_by_optimizer=one) for number, one in enumerate(made, start=1)]
        return Probe(settings=settings(epochs=epochs), loaders=loaders, epochs=tuple(seen))

    (finding,) = found(RULES["no-optimizer-step"], probe({"g": 0, "d": 200}, {"g": 0, "d": 200}))
    assert "the optimizer 'g' has made no step in 2 epochs, while 'd' made 200" in finding.what
    assert not found(RULES["no-optimizer-step"], probe({"g": 0, "d": 200}))
    assert not found(RULES["no-optimizer-step"], probe({"g": 0, "d": 200}, {"g": 40, "d": 200}))
    assert not found(RULES["no-optimizer-step"], probe({"g": 40, "d": 200}, {"g": 40, "d": 200}))
    (finding,) = found(RULES["no-optimizer-step"], probe({"": 2}, steps=2))
    assert "the optimizer stepped 2 times in the 200 batches of train" in finding.what


def of_own(made, plan, otherwise, epochs=2, **options):
    """Return two epochs of 50 batches of a runner that steps its schedule itself."""
    plans = {"batch": tuple(plan), "epoch": tuple(otherwise)}
    options = {"scheduler": "CosineAnnealingLR", **options}
    seen = tuple(epoch(number, scheduler_steps=made * number // epochs) for number in range(1, epochs + 1))
    return Probe(settings=replace(settings(**options), lr_plans=plans), epochs=seen,
                 loaders={"train": loader("train", [], batches=50)})  # fmt: skip


@pytest.mark.parametrize(
    ("probe", "part"),
    [
        (of_own(0, COSINE, by_epoch(COSINE[:10])), "CosineAnnealingLR has made no step in 2 epochs"),
        (of_own(200, COSINE, by_epoch(COSINE[:10])), "has made 200 steps in 100 batches, two in each"),
        (of_own(100, SHORT_COSINE, by_epoch(SHORT_COSINE[:10])), "CosineAnnealingLR is made for fewer steps"),
        (of_own(1, COSINE, by_epoch(COSINE[:10]), scheduler_length=500), "is made for 500 steps and steps once per ep"),
        (of_own(4, SHORT_COSINE, by_epoch(COSINE[::40])), "has made 4 steps in 2 epochs, two in each"),
    ],
)
def test_a_schedule_that_a_runner_steps_wrongly_by_itself_is_named(probe, part):
    (finding,) = found(RULES["own-schedule"], probe)
    assert part in finding.what


@pytest.mark.parametrize(
    "probe",
    [
        of_own(100, COSINE, by_epoch(COSINE[:10])),
        of_own(1, SHORT_COSINE, by_epoch(COSINE[::40])),
        of_own(2, SHORT_COSINE, by_epoch(COSINE[::40])),
        of_own(0, COSINE, by_epoch(COSINE[:10]), epochs=1),
        of_own(0, [1.0] * 400, [1.0] * 400),
        of_own(25, COSINE, COSINE),  # a step for four batches
    ],
)
def test_a_schedule_that_a_runner_steps_well_by_itself_is_no_news(probe):
    assert not found(RULES["own-schedule"], probe)


def test_a_loss_that_jumps_up_at_once_and_settles_is_named_and_one_that_breaks_without_a_rise_is_not():
    jumps = [1.84, 30, 10, 3.3, 2.2, 2, 2.7, 1.9, 1.6, 1.9, 2.0, 1.9, 1.6]
    (finding,) = found(RULES["learning-rate-too-high"], steps(0.13, losses=jumps))
    assert "goes from 1.84 up to 30 in 13 steps" in finding.what
    assert not found(RULES["learning-rate-too-high"], steps(0.02, losses=[1.8, nan, 1.7, 1.6, 1.7, nan, 1.5]))


def test_a_warm_up_that_hardly_leaves_the_ground_is_named_in_a_short_run_too():
    low = settings([0.04 * index / 30 for index in range(1, 31)], epochs=2, steps_per_epoch=15)
    (finding,) = found(RULES["endless-warmup"], Probe(settings=low))
    assert "lasts for the whole run of 30 steps" in finding.what
