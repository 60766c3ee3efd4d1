import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from assay.callbacks.measures.confusion_by_group import ConfusionByGroup
from assay.callbacks.support.distributed import reduce_state


def fill(measure, *arrays, cuts=(0, 1, 3)):
    for start, end in zip(cuts, [*cuts[1:], len(arrays[0])], strict=True):
        measure.update(*(torch.as_tensor(array[start:end]) for array in arrays))
    return measure.state


@pytest.mark.parametrize("shape", [(60,), (20, 4, 3)])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
def test_counts_of_each_group_equal_scikit_learn(shape, dtype):
    decided, target = np.random.randint(0, 4, shape), np.random.randint(0, 4, shape)
    group = np.random.randint(0, 3, shape[0])
    state = fill(ConfusionByGroup(3, 4), decided, target.astype(dtype), group)
    for number in range(3):
        mine = group == number
        expected = sk.confusion_matrix(target[mine].reshape(-1), decided[mine].reshape(-1), labels=range(4))
        assert np.array_equal(state["counts"][number].numpy(), expected)
    assert state["outside"] == state["ungrouped"] == 0


def test_what_is_no_class_or_in_no_group_is_left_out_and_counted():
    decided, target = np.array([0, 1, 1, 0, 1]), np.array([0, 1, 2, -1, 1])
    state = fill(ConfusionByGroup(2, 2), decided, target, np.array([0, 1, 0, 1, 2]))
    assert state["counts"].tolist() == [[[1, 0], [0, 0]], [[0, 0], [0, 1]]]
    assert (state["outside"], state["ungrouped"]) == (2, 1)


def test_ignored_targets_do_not_count():
    decided, target = np.array([0, 1, 1, 0]), np.array([0, 255, 1, 255])
    state = fill(ConfusionByGroup(1, 2, ignore_index=255), decided, target, np.array([0, 0, 0, 9]))
    assert state["counts"].tolist() == [[[1, 0], [0, 1]]]
    assert state["outside"] == state["ungrouped"] == 0


def _count(rank, size, decided, target, group):
    measure = ConfusionByGroup(3, 4)
    measure.update(*(torch.as_tensor(array[rank::size]) for array in (decided, target, group)))
    return reduce_state(measure.state, measure.reductions)["counts"].numpy()


def test_ranks_together_count_every_sample(ranks):
    arrays = [np.random.randint(0, high, 41) for high in (4, 4, 3)]
    expected = fill(ConfusionByGroup(3, 4), *arrays)["counts"].numpy()
    for found in ranks.run(_count, ranks.size, *arrays):
        assert np.array_equal(found, expected)


def test_nothing_is_read_from_the_device():
    numbers = torch.zeros(4, dtype=torch.int64, device="meta")
    ConfusionByGroup(2, 3, ignore_index=1, device="meta").update(numbers, numbers, numbers)
