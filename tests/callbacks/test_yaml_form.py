"""Every exported callback can be written in a config of Catalyst's, with all of its arguments."""

import inspect

import pytest
import yaml
from catalyst import dl
from hydra_slayer import get_from_params

from assay import callbacks

CALLBACKS = sorted(
    name
    for name in callbacks.__all__
    if inspect.isclass(getattr(callbacks, name)) and issubclass(getattr(callbacks, name), dl.Callback)
    if name != "PseudoLabels"  # its data set is an object: in a config the one of a loader, by _var_
)


def double_loss(batch):
    return 2 * batch["loss"]


@pytest.mark.parametrize("name", CALLBACKS)
def test_each_argument_has_a_form_in_yaml(name):
    parameters = inspect.signature(getattr(callbacks, name)).parameters.values()
    given = {"num_classes": 3, "class_names": ["a", "b", "c"]}
    arguments = {one.name: given.get(one.name, one.default) for one in parameters}
    if "class_names" in arguments:
        arguments.pop("num_classes", None)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
    if "order" in plain:
        plain["order"] = int(plain["order"])
    written = yaml.safe_dump({key: value for key, value in plain.items() if not callable(value)})
    made = get_from_params(_target_=f"assay.callbacks.{name}", **yaml.safe_load(written))
    assert type(made) is getattr(callbacks, name)


def test_a_function_is_named_and_a_list_of_callbacks_called():
    text = """
    best: {_target_: assay.callbacks.BestWorstSamples, score: {_target_: test_yaml_form.double_loss, _mode_: partial}}
    all: {_target_: assay.callbacks.classification_diagnostics, _mode_: call, num_classes: 3}
    """
    made = get_from_params(**yaml.safe_load(text))
    assert made["best"].score({"loss": 2}) == 4
    assert made["best"].score_name == "double_loss"
    assert all(isinstance(callback, dl.Callback) for callback in made["all"])
