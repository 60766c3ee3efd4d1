import sys

import pytest

import assay.callbacks


def test_every_exported_name_exists():
    for name in assay.callbacks.__all__:
        assert getattr(assay.callbacks, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'assay.callbacks' has no attribute 'BestWorstBatch'"):
        assay.callbacks.BestWorstBatch  # noqa: B018 - looking it up is the test


def test_without_catalyst_a_name_that_is_used_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(sys.modules["assay.callbacks.lazy_exports"], "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"uv pip install catalyst==22.4") as caught:
        assay.callbacks.Metrics  # noqa: B018 - looking it up is the test
    assert caught.value.name == "catalyst"
