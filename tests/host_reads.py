"""A runner that keeps for every step what would have made the host wait for a device."""

from benchmarks.host_reads import HostReads

__all__ = ["CountsSteps", "HostReads"]


class CountsSteps:
    """A runner that keeps one count a step, from before the first callback to behind its own logging at the end.

    Mixed into a runner, before it. ``make_mode`` returns what counts while it is entered, into ``seen``.
    """

    make_mode = HostReads

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps = []

    def on_batch_start(self, runner):
        self.mode = self.make_mode()
        self.mode.__enter__()
        super().on_batch_start(runner)

    def on_batch_end(self, runner):
        super().on_batch_end(runner)
        self.mode.__exit__(None, None, None)
        self.steps.append(self.mode.seen)
