"""``Checking``: a runner that looks at what it is given, and trains nothing."""

from .dict_runner import DictRunner


class Checking(DictRunner):
    """Prepares a run and lets its callback ``findings`` look at it; the other callbacks take no part.

    They are there to be looked at: what they are told of the data is a setting of the run.
    """

    def _run_event(self, event: str) -> None:
        if event == "on_experiment_start":
            self.on_experiment_start(self)
            self.callbacks["findings"].on_experiment_start(self)
            self.need_early_stop = True  # before the first epoch
