import math

import numpy as np
import pytest
import torch

from assay.callbacks.measures.gradient_stats import GradientStats, find_troubles
from assay.callbacks.support.distributed import reduce_state

THRESHOLDS = {"vanished_below": 1e-3, "exploded_above": 1e3}


@pytest.fixture(autouse=True, params=["as a CPU does", "as a GPU does"])
def reduces(request, monkeypatch):
    """Reduce gradients in both ways, which have to come to the same numbers."""
    if request.param == "as a GPU does":
        monkeypatch.setattr("assay.callbacks.measures.gradient_stats.is_on_cpu", lambda tensor: False)


def plain_loop(steps):
    """Statistics of one parameter over steps, by NumPy in float64; None is a missing gradient."""
    arrays = [np.asarray(step, dtype=np.float64).ravel() for step in steps if step is not None]
    finite = [array for array in arrays if np.isfinite(array).all()]
    expected = {"finite_steps": len(finite), "broken_steps": len(arrays) - len(finite)}
    expected["missing_steps"] = len(steps) - len(arrays)
    if finite:
        expected["min"] = min(array.min() for array in finite)
        expected["max"] = max(array.max() for array in finite)
        expected["mean"] = np.mean([array.mean() for array in finite])
        expected["std"] = np.mean([array.std() for array in finite])
        expected["norm"] = np.mean([np.sqrt((array**2).sum()) for array in finite])
        expected["zeros"] = np.mean([(array == 0).mean() for array in finite])
    else:
        expected.update(dict.fromkeys(("min", "max", "mean", "std", "norm", "zeros"), math.nan))
    return expected


def measured(steps, **options):
    """``steps``: a list over steps of lists over parameters."""
    sizes = [next((g.numel() for g in column if g is not None), 1) for column in zip(*steps, strict=True)]
    measure = GradientStats(sizes)
    for step in steps:
        measure.update(step, **options)
    return measure.summarize(measure.pack())


def check(summary, steps, rel=1e-6):
    for index, column in enumerate(zip(*steps, strict=True)):
        column = [None if g is None else (g.to_dense() if g.is_sparse else g).double().numpy() for g in column]
        expected = plain_loop(column)
        scale = expected["norm"] if np.isfinite(expected["norm"]) else 1.0
        for name, value in expected.items():
            # A mean cancels, so it is compared relative to the norm; the std follows from both.
            room = scale * (1e-3 if name == "std" else rel)
            assert summary[name][index].item() == pytest.approx(value, rel=rel, abs=room, nan_ok=True), (name, index)


def test_every_number_equals_a_plain_loop_in_float64():
    steps = [[torch.randn(7, 5), torch.randn(3) * 1e-6, torch.randn(2, 3, 4) + 5] for _ in range(6)]
    steps[2][0][:3] = 0
    check(measured(steps), steps)


def test_large_and_small_gradients_of_any_sizes_keep_their_places():
    shapes = [(5,), (200, 100), (5,), (3, 3), (150, 2, 100), (9,), (20000,), (1,), (5, 1)]
    # Zeros of both signs are zeros.
    steps = [[torch.randn(shape) * (index + 1) for index, shape in enumerate(shapes)] for _ in range(2)]
    steps[1][3], steps[1][4] = None, None
    steps[0][6][:50], steps[0][6][50:90], steps[0][8][2] = 0, -0.0, -0.0
    check(measured(steps), steps)


def test_a_large_gradient_in_channels_last_is_read_as_it_lies():
    steps = [[torch.randn(64, 48, 3, 3).to(memory_format=torch.channels_last)]]
    check(measured(steps), steps)


def test_a_large_sparse_gradient_equals_its_dense_form():
    indices = torch.tensor([[3, 9999, 3]])
    gradient = torch.sparse_coo_tensor(indices, torch.rand(3, 4) + 1, (10000, 4), check_invariants=True)
    check(measured([[gradient]]), [[gradient]])


@pytest.mark.parametrize("size", [6, 20000])
def test_one_broken_value_is_found_in_small_and_large_gradients(size):
    for value in (math.nan, math.inf, -math.inf):
        bad = torch.randn(size)
        bad[4] = value
        summary = measured([[torch.randn(size), bad]], suspects={1})
        assert summary["broken_steps"].tolist() == [0, 1]
        assert summary["non_finite"].tolist() == [0, pytest.approx(1 / size)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_update_ratios_equal_those_of_a_plain_loop(dtype):
    measure, expected = GradientStats([12, 20000, 4]), []
    for _ in range(3):
        before = [torch.randn(size).to(dtype) for size in (12, 20000)] + [torch.zeros(4, dtype=dtype)]
        after = [weight + torch.randn_like(weight) * 1e-2 for weight in before]
        pairs = [(old.double().numpy(), new.double().numpy()) for old, new in zip(before[:2], after, strict=False)]
        expected.append([np.linalg.norm(new - old) / np.linalg.norm(old) for old, new in pairs])
        measure.update_ratio(before, after)
    ratios = measure.summarize(measure.pack())["update_ratio"].tolist()
    assert ratios[:2] == pytest.approx(np.mean(expected, axis=0), rel=1e-5 if dtype == torch.float32 else 1e-3)
    assert math.isnan(ratios[2])  # from norm 0


def test_a_step_that_moves_nothing_has_the_ratio_zero():
    measure = GradientStats([3])
    measure.update_ratio([torch.ones(3)], [torch.ones(3)])
    assert measure.summarize(measure.pack())["update_ratio"].tolist() == [0.0]


def test_a_large_gradient_loses_nothing_on_a_cpu():
    steps = [[torch.randn(1000, 3000)]]
    check(measured(steps), steps, rel=5e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_count_without_overflow(dtype):
    steps = [[(torch.rand(40, 50) * 1000).to(dtype), torch.randn(5).to(dtype)] for _ in range(2)]
    check(measured(steps), steps)


def test_types_may_be_mixed():
    steps = [[torch.randn(4, 3), torch.randn(5).half(), torch.randn(5).double()]]
    check(measured(steps), steps)


def test_the_standard_deviation_of_one_value_is_zero():
    assert measured([[torch.tensor([3.0])]])["std"].tolist() == pytest.approx([0.0], abs=1e-3)


def test_missing_gradients_are_counted_and_left_out():
    steps = [[torch.randn(4), None], [None, None], [torch.randn(4), None]]
    summary = measured(steps)
    check(summary, steps)
    assert summary["missing_steps"].tolist() == [1, 3]


@pytest.mark.parametrize("entries", [[[0, 2]], [[1, 1]], [[0, 3, 0, 1, 2]], [[]]])
def test_a_sparse_gradient_equals_its_dense_form(entries):
    indices = torch.tensor(entries, dtype=torch.int64)
    gradient = torch.sparse_coo_tensor(indices, torch.rand(indices.shape[1], 3) + 1, (4, 3), check_invariants=True)
    check(measured([[gradient]]), [[gradient]])


def test_steps_that_are_not_finite_are_counted_and_left_out():
    good, bad, worse = torch.randn(8), torch.randn(8), torch.randn(8)
    bad[3], worse[:4] = math.nan, math.inf
    steps = [[good, good], [bad, good], [worse, -good]]
    check(measured(steps), steps)


@pytest.mark.parametrize(("suspects", "share", "counted"), [((0,), (1 / 8 + 4 / 8) / 2, 2), ((), math.nan, 0)])
def test_the_share_that_is_not_finite_is_that_of_broken_steps_of_suspects(suspects, share, counted):
    bad, worse = torch.ones(8), torch.ones(8)
    bad[3], worse[:4] = math.nan, -math.inf
    summary = measured(
        [[bad, torch.ones(2)], [torch.ones(8), torch.ones(2)], [worse, torch.ones(2)]], suspects=suspects
    )
    assert summary["non_finite"].tolist() == pytest.approx([share, 0.0], nan_ok=True)
    assert summary["counted_steps"].tolist() == [counted, 0]


def test_finite_values_whose_norm_overflows_are_not_broken():
    summary = measured([[torch.full((3,), 1e30)]])
    assert summary["broken_steps"].tolist() == [0]
    assert summary["max"].item() == pytest.approx(1e30)


def test_finite_values_whose_sum_overflows_are_not_broken():
    assert measured([[torch.full((2**14,), 3e38), torch.ones(1)]])["broken_steps"].tolist() == [0, 0]


def test_a_scale_is_taken_out():
    steps = [[torch.randn(6, 2), torch.randn(3)] for _ in range(3)]
    scaled = [[gradient * 1024 for gradient in step] for step in steps]
    check(measured(scaled, scale=torch.tensor(1024.0)), steps)


def test_without_an_update_all_is_valid():
    measure = GradientStats([3, 4])
    summary = measure.summarize(measure.pack(reduce_state(measure.state, measure.reductions)))
    assert all(torch.isnan(summary[name]).all() for name in ("min", "mean", "max", "std", "norm", "zeros"))
    assert summary["non_finite"].tolist() == summary["finite_steps"].tolist() == [0, 0]
    assert find_troubles(summary, **THRESHOLDS) == {}


def test_an_update_reads_nothing_from_the_device():
    measure = GradientStats([12, 5, 5, 2, 20000], device="meta")
    gradients = [torch.empty(4, 3, device="meta"), torch.empty(5, device="meta", dtype=torch.float16), None]
    gradients += [torch.empty(2, device="meta"), torch.empty(20000, device="meta")]
    for _ in range(2):
        measure.update(gradients, suspects={0, 2}, scale=torch.ones((), device="meta"))
        weights = [torch.empty(size, device="meta") for size in (12, 5, 5, 2, 20000)]
        measure.update_ratio([weight.clone() for weight in weights], weights)
    assert measure.pack().shape == (len(measure.reductions), 5)


def test_gradients_are_left_as_they_are():
    gradients = [torch.randn(3, 4), torch.randn(2)]
    before = [gradient.clone() for gradient in gradients]
    measured([gradients])
    assert all(torch.equal(*pair) for pair in zip(gradients, before, strict=True))


def on_a_rank(rank, gradients):
    measure = GradientStats([6, 2])
    for step in gradients:
        measure.update(step)
    return measure.summarize(measure.pack(reduce_state(measure.state, measure.reductions)))


def test_ranks_that_saw_the_same_agree_with_one_process(ranks):
    steps = [[torch.randn(2, 3), torch.randn(2)] for _ in range(3)]
    for summary in ranks.run(on_a_rank, steps):
        for name, values in measured(steps).items():
            if not name.endswith("_steps"):
                torch.testing.assert_close(summary[name], values, equal_nan=True)


def test_troubles_are_found_by_kind():
    gradients = [torch.randn(50) for _ in range(5)] + [torch.randn(50) * 1e-5, torch.randn(50) * 1e5]
    broken = torch.randn(50)
    broken[0] = math.nan
    summary = measured([[*gradients, torch.zeros(50), None, broken]])
    assert find_troubles(summary, **THRESHOLDS) == {
        "vanished": [5], "exploded": [6], "dead": [7], "missing": [8], "broken": [9]
    }  # fmt: skip


def test_where_most_vanished_the_others_have_not_exploded():
    steps = [[torch.randn(9) * 1e-9, torch.randn(9) * 1e-9, torch.randn(9) * 1e-9, torch.randn(9)]]
    assert "exploded" not in find_troubles(measured(steps), **THRESHOLDS)
