"""``Watch``: what the observers have seen of a run, as the ``Probe`` of each moment."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .probe.probe import Probe
from .probe.settings_probe import SettingsProbe


class Watch:
    """Observes a run and returns the ``Probe`` of a moment."""

    def __init__(self, runner: Any, *, full: bool, fields: Mapping[str, object] | None, **keys: Any):
        self.runner = runner
        self.has_new_steps = False
        self.probe = Probe(settings=replace(SettingsProbe(), of_experiment=fields is not None, fields=fields or {}))

    def data(self) -> Probe:
        return self.probe

    settings = model = steps = epoch = data

    def begin_loader(self, runner: Any) -> None:
        pass

    begin_batch = end_batch = end_loader = begin_loader

    def end_epoch(self, runner: Any) -> bool:
        return False

    def release(self) -> None:
        pass
