import importlib.util

import pytest

import assay.callbacks


def test_every_exported_name_exists():
    for name in assay.callbacks.__all__:
        assert getattr(assay.callbacks, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'assay.callbacks' has no attribute 'BestWorstBatch'"):
        assay.callbacks.BestWorstBatch  # noqa: B018 - looking it up is the test


def test_without_catalyst_the_import_says_how_to_install_it(monkeypatch):
    spec = importlib.util.spec_from_file_location("callbacks_without_catalyst", assay.callbacks.__file__)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "catalyst" else find_spec(name))
    with pytest.raises(ModuleNotFoundError, match=r"uv pip install catalyst==22.4") as caught:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert caught.value.name == "catalyst"
