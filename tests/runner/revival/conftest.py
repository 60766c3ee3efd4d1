"""Processes in which Catalyst is revived, so that no other test finds it mended."""

import pytest
from rank_processes import RankProcesses
from stock_projects import revive_and_call


@pytest.fixture(scope="session")
def revived(tmp_path_factory):
    """Return a function that runs ``function(*arguments)`` on so many ranks, each of which has called ``revive``."""
    processes = RankProcesses(tmp_path_factory.mktemp("revived"))

    def run(ranks, function, *arguments):
        return processes.run(ranks, revive_and_call, function, arguments)

    yield run
    processes.stop()
