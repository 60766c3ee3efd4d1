"""The version of assay."""

from importlib.metadata import PackageNotFoundError, version


def _installed_version() -> str:
    try:
        return version("catalyst-assay")
    except PackageNotFoundError:  # a checkout on PYTHONPATH has no metadata
        return "0+unknown"


__version__ = _installed_version()
