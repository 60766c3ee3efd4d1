"""A run that an error ends: callbacks and loggers save what they hold, and the error says where in the run it was."""

from collections.abc import Callable
from functools import partial

from .fault_messages import explain, note_place
from .parts.run_view import RunView


def close_failed_run(run: RunView, error: BaseException) -> None:
    """Have callbacks and loggers close, and note on an error that comes from outside the program where it was raised.

    What fails in closing is noted on the error and never takes its place.
    """
    if explain(error) is not None:
        note_place(error, _place_in_run(run))
    for callback in run.callbacks.values():
        _call_noting(partial(callback.on_exception, run), error)
    # Last: callbacks may log what they hold.
    _call_noting(partial(_close_loggers, run), error)


def _place_in_run(run: RunView) -> str:
    if not run.epoch_step or run.loader_key is None:
        return "the start of the run"
    place = f"epoch {run.epoch_step}, loader {run.loader_key!r}"
    batch = run.loader_rounds
    return f"{place}, batch {batch} of {run.loader_batch_len}" if batch else f"{place}, before its first batch"


def _close_loggers(run: RunView) -> None:
    run.close_log()
    run.engine.cleanup()


def _call_noting(close: Callable[[], None], error: BaseException) -> None:
    try:
        close()
    except Exception as another:
        # A callback may raise the run's own error again, as Catalyst's runner does.
        if another is not error:
            error.add_note(f"While closing, {another!r} was raised too.")
