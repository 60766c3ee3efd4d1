"""A DictRunner has all that its parts ask of it."""

from assay.runner.loop.parts.run_view import RunView


def test_a_runner_has_all_that_its_parts_ask_for(make_net, make_loader, train):
    runner = train(make_net(), {"train": make_loader(4)})
    members = [
        name for name in vars(RunView) if name not in vars(object) and not name.startswith(("__", "_abc", "_is_"))
    ]
    asked = {*RunView.__annotations__, *members}
    assert {"engine", "optimizer_step", "loader_rounds", "forward", "_take_step"} <= asked
    assert {name for name in asked if not hasattr(runner, name)} == set()
