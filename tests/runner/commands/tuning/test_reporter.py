"""The callback by which a trial tells its search of each epoch."""

import gc
import multiprocessing

from kit import StandIn

from assay.runner.commands.tuning.reporter import ReportToSearch
from assay.runner.loop.callback_copies import copy_callback
from assay.runner.recipe.monitor import Monitor


def test_a_copy_for_the_validation_that_is_tried_out_leaves_the_connection_open():
    search, trial = multiprocessing.Pipe()
    reporter = ReportToSearch(Monitor.parse("valid/loss:min"), trial)
    copied = copy_callback(reporter, [])
    del copied
    gc.collect()
    search.send(True)
    runner = StandIn(epoch_step=2, history={2: {"valid": {"loss": 0.5}}}, need_early_stop=False)
    reporter.on_epoch_end(runner)
    assert search.recv() == (2, 0.5)
    assert runner.need_early_stop
