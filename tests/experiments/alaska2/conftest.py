import pytest

from assay.experiments.alaska2.generator import make_data


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A generated data set of 12 covers that no test changes."""
    folder = tmp_path_factory.mktemp("alaska2")
    make_data(folder, covers=12, side=64)
    return folder


@pytest.fixture
def data_dir(tmp_path):
    """A generated data set of 12 covers, to be spoiled."""
    folder = tmp_path / "data"
    folder.mkdir()
    make_data(folder, covers=12, side=64)
    return folder
