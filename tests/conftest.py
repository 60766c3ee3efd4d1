"""What the tests of all folders share."""

import pytest
from rank_processes import RankProcesses


@pytest.fixture(scope="session")
def rank_processes(tmp_path_factory):
    """Return processes that stand for the ranks of a run; they start when they are first asked for."""
    processes = RankProcesses(tmp_path_factory.mktemp("ranks"))
    yield processes
    processes.stop()
