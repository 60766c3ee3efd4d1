"""An output with parameters of its own that no loss takes.

Source: multi-task models whose second loss was forgotten, or reads another key.
Cost: one backward pass that other rules need as well.
Risk: features, attention maps and the like are outputs without a loss, but all their parameters get gradients from
elsewhere; such outputs are not told of.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import ModelProbe, ParameterProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import some
from ..parts import modules_of, told, verb


@rule("head-without-loss", at="model", needs=["model"], explained_by=[
    "all-frozen", "output-without-gradient", "loss-metric-keys",
])  # fmt: skip
def head_without_loss(probe: Probe) -> Iterator[Finding]:
    """Find outputs without a loss, beside parameters that were called and got no gradient."""
    if probe.model is None or probe.model.loss is None:
        return
    lone = [key for key, output in probe.model.outputs.items() if not output.has_loss and output.requires_grad]
    if not lone or len(lone) == len(probe.model.outputs):
        return
    names = [it.name for it in probe.model.parameters if _without_gradient(probe.model, it)]
    if not names:
        return
    modules = modules_of(names, [it.name for it in probe.model.parameters if it.name not in {*names}])
    yield Finding(
        "warning",
        f"no loss takes output {some(lone)}, so {told(modules, 'module')} "
        f"{verb(modules, 'gets', 'get')} no gradient and learn{verb(modules, 's', '')} nothing",
        "add a loss term for it, or remove the head",
        Where(key=", ".join(lone), layer=modules[0]),
        {"outputs": lone, "parameters": names[:8]},
    )


def _without_gradient(model: ModelProbe, parameter: ParameterProbe) -> bool:
    called = not any(parameter.name.startswith(f"{name}.") for name in model.uncalled)
    return parameter.trains and parameter.grad_norm is None and called and parameter.name not in model.late_parameters
