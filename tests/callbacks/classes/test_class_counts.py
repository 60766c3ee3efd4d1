"""Small batches are counted together, and that changes no count."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kit import StandIn
from sklearn.metrics import confusion_matrix

from assay.callbacks.classes.class_counts import ClassCounts
from assay.callbacks.classes.score_counts import ScoreCounts
from assay.callbacks.support.checkpoint_values import from_plain, to_plain


class Seen(ClassCounts):
    """Keeps the counts, and how large the batches were that the measure was handed."""

    def count(self, output, *others):
        self.sizes = [*getattr(self, "sizes", []), len(output) if output.ndim else 1]
        super().count(output, *others)

    def write(self, runner, writer, counts):
        self.found = counts


class SeenScores(Seen, ScoreCounts):
    pass


def runner_of(output=None, target=None):
    engine, batch = SimpleNamespace(device=torch.device("cpu")), {"logits": output, "target": target}
    return StandIn(engine=engine, is_infer_loader=False, loader_key="valid", epoch_step=1, batch=batch)


def count(callback, batches, between=lambda: None):
    callback.begin(runner_of())
    for output, target in batches:
        callback.observe(runner_of(output, target))
        between()
    callback.report(runner_of(), None)
    return callback.found


def draw(sizes, classes=4, extra=(), dtype=torch.float32):
    return [(torch.randn(size, classes, *extra).to(dtype), torch.randint(0, classes, (size, *extra))) for size in sizes]


def reference(batches, classes=4):
    target = np.concatenate([target.reshape(-1).numpy() for _, target in batches])
    decided = np.concatenate([output.float().argmax(1).reshape(-1).numpy() for output, _ in batches])
    return confusion_matrix(target, decided, labels=range(classes))


def test_small_batches_are_counted_together_and_large_ones_at_once():
    batches = draw([32] * 20)
    callback = Seen(num_classes=4)
    assert np.array_equal(count(callback, batches)[0], reference(batches))
    assert callback.sizes == [256, 256, 128]
    large = draw([5, 2], extra=(40, 41))
    callback = Seen(num_classes=4)
    assert np.array_equal(count(callback, large)[0], reference(large))
    assert callback.sizes == [5, 2]


def test_batches_of_several_shapes_and_types_are_counted_too():
    batches = draw([3, 4]) + draw([2], extra=(5, 5)) + draw([2], extra=(3, 5)) + draw([6], dtype=torch.bfloat16)
    callback = Seen(num_classes=4)
    assert np.array_equal(count(callback, batches)[0], reference(batches))
    assert callback.sizes == [7, 2, 2, 6]


def test_a_single_logit_without_an_axis_is_counted():
    batches = [(torch.tensor([1.0, -1.0, 2.0]), torch.tensor([1, 1, 0])), (torch.tensor(3.0), torch.tensor(1))]
    assert count(Seen(task="binary"), batches)[0].tolist() == [[0, 1], [1, 2]]


def test_an_output_that_is_written_over_behind_its_step_was_counted_as_it_was():
    batches, output, target = draw([8] * 5), torch.empty(8, 4), torch.empty(8, dtype=torch.int64)
    reused = ((output.copy_(one), target.copy_(other)) for one, other in batches)
    assert np.array_equal(count(Seen(num_classes=4), reused)[0], reference(batches))


@pytest.mark.parametrize("kind", [Seen, SeenScores])
def test_a_checkpoint_within_a_loader_holds_what_waited(kind):
    batches = draw([8] * 6)
    expected = count(kind(num_classes=4), batches)
    first, second = kind(num_classes=4), kind(num_classes=4)
    first.begin(runner_of())
    for output, target in batches[:3]:
        first.observe(runner_of(output, target))
    state = first.loader_state(runner_of())
    second.begin(runner_of())
    second.load_loader_state(runner_of(), from_plain(to_plain(state)))
    for output, target in batches[3:]:
        second.observe(runner_of(output, target))
    second.report(runner_of(), None)
    assert torch.equal(second.found, expected)


def test_nothing_waits_from_one_loader_to_the_next():
    callback, batches = Seen(num_classes=4), draw([8])
    callback.begin(runner_of())
    callback.observe(runner_of(*batches[0]))
    assert count(callback, batches)[0].sum() == 8
