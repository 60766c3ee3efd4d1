"""Parameters are frozen by name, and statistics of what is frozen as a whole stay."""

import pytest
from torch import nn

from assay.runner import UsageError
from assay.runner.recipe.fine_tuning.freezing import freeze, frozen_statistics


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        plain = nn.BatchNorm2d(2, affine=False)
        self.encoder = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout(), plain)
        self.neck = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
        self.head = nn.Linear(2, 3)


@pytest.mark.parametrize(
    ("pattern", "frozen"),
    [
        ("^encoder", ["encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "encoder.1.bias"]),
        ("bias$", ["encoder.0.bias", "encoder.1.bias", "neck.0.bias", "neck.1.bias", "head.bias"]),
        (r"neck\.[01]\.w", ["neck.0.weight", "neck.1.weight"]),
    ],
)
def test_a_pattern_freezes_what_it_is_found_in(pattern, frozen):
    net = Net()
    assert freeze({"": net}, pattern) == frozen
    assert [name for name, parameter in net.named_parameters() if not parameter.requires_grad] == frozen


def test_what_the_model_has_frozen_itself_is_not_to_be_unfrozen():
    net = Net()
    net.encoder[0].requires_grad_(False)
    assert freeze({"": net}, "^encoder") == ["encoder.1.weight", "encoder.1.bias"]


def test_names_of_several_models_begin_with_their_own():
    models = {"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}
    assert freeze(models, "^b") == ["b.weight", "b.bias"]
    assert models["a"].weight.requires_grad and not models["b"].weight.requires_grad


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("^bencoder", r"freeze '\^bencoder' is found in no name of a parameter; did you mean 'encoder'\? The model has "
         r"'encoder', 'head', 'neck'\."),
        ("zzz", r"freeze 'zzz' is found in no name of a parameter\. The model has 'encoder', 'head', 'neck'\."),
        (".", r"freeze '\.' matches all 10 parameters: nothing would be trained\."),
    ],
)  # fmt: skip
def test_what_freezes_nothing_or_everything_is_refused(pattern, message):
    net = Net()
    with pytest.raises(UsageError, match=f"^{message}$"):
        freeze({"": net}, pattern)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_statistics_are_those_of_parts_that_are_frozen_as_a_whole():
    net = Net()
    assert frozen_statistics(net) == []
    freeze({"": net}, r"^encoder|neck\.0|neck\.1\.bias")
    assert frozen_statistics(net) == [net.encoder[1], net.encoder[3]]
