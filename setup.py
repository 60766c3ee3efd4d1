"""The packages, found; all other metadata is in setup.cfg."""

from setuptools import find_packages, setup

FOUND = find_packages(include=["callbacks*", "experiments*", "runner*"])

setup(packages=[f"assay.{name}" for name in FOUND])
