import base64

import numpy as np
import pytest
from made_samples import write_samples

from assay.callbacks.gallery.report.epochs import earlier_epochs, spread_evenly
from assay.callbacks.gallery.run_samples import RunSamples

COUNT, EPOCHS = 60, 8


@pytest.fixture
def samples(tmp_path):
    seen = np.ones((EPOCHS, COUNT), bool)
    seen[1, [3, 40]] = False
    write_samples(tmp_path, count=COUNT, epochs=EPOCHS, seen=seen)
    return RunSamples(tmp_path)


def decoded(column):
    return np.frombuffer(base64.b64decode(column["data"]), np.dtype(column["type"]).newbyteorder("<"))


def test_each_epoch_has_its_predictions_exactly_and_its_fractions_to_three_digits(samples):
    table, rows = samples.table("valid"), np.arange(2, COUNT)
    found, used = earlier_epochs(samples, table, rows, 1_000_000)
    assert found["numbers"] == [1, 2, 3, 4, 5, 6, 7] and found["left_out"] == 0
    assert used >= sum(len(one["data"]) for of in found["tables"] for one in of["columns"].values())
    for epoch, of in zip(found["numbers"], found["tables"], strict=True):
        expected = samples.table("valid", epoch)
        at = {index: row for row, index in enumerate(expected.columns["index"].tolist())}
        seen = np.array([index in at for index in rows.tolist()])
        assert (of["seen"] is None) == bool(seen.all())
        if of["seen"]:
            assert (np.frombuffer(base64.b64decode(of["seen"]), np.uint8) == seen).all()
        places = [at[index] for index in rows[seen].tolist()]
        for name in ("prediction", "correct"):
            assert (decoded(of["columns"][name])[seen] == expected.columns[name][places]).all()
        for name in ("loss", "probability", "target_probability", "margin", "el2n"):
            np.testing.assert_allclose(decoded(of["columns"][name])[seen], expected.columns[name][places], rtol=5e-4)
        assert not {"aum", "id", "index", "target", "suspect"} & of["columns"].keys()


def test_where_not_all_fit_epochs_are_left_out_evenly_and_counted(samples):
    table, rows = samples.table("valid"), np.arange(COUNT)
    _, of_all = earlier_epochs(samples, table, rows, 1_000_000)
    found, used = earlier_epochs(samples, table, rows, of_all // 2)
    assert found["numbers"] == [1, 3, 5] and found["left_out"] == 4 and used <= of_all // 2
    none, nothing = earlier_epochs(samples, table, rows, 10)
    assert none == {"numbers": [], "left_out": 7, "tables": []} and nothing == 0


def test_a_damaged_epoch_is_left_out(samples, tmp_path):
    (tmp_path / "samples" / "valid" / "epoch-000003.parquet").write_bytes(b"nothing")
    found, _ = earlier_epochs(samples, samples.table("valid"), np.arange(COUNT), 1_000_000)
    assert found["numbers"] == [1, 2, 4, 5, 6, 7] and found["left_out"] == 1


def test_losses_that_three_digits_do_not_hold_stay_as_they_are(tmp_path):
    from assay.callbacks.gallery.report.epochs import _packed

    assert _packed(np.array([1e5, np.nan], np.float32)).dtype == np.float32
    assert _packed(np.array([5e4, np.inf], np.float32)).dtype == np.float16
    assert [_packed(np.array([of], np.int32)).dtype.name for of in (-1, 127, 128, -200, 40_000)] == [
        "int8", "int8", "int16", "int16", "int32"
    ]  # fmt: skip


def test_epochs_are_spread_evenly():
    assert spread_evenly([1, 2, 3], 5) == [1, 2, 3]
    assert spread_evenly(list(range(1, 11)), 4) == [1, 3, 6, 8]
    assert spread_evenly([1, 2, 3], 0) == []
