import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_samples import JPEG, write_groups, write_samples, write_thumbnails
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client

from assay.callbacks.gallery.run_folder import RunFolder
from assay.callbacks.gallery.run_samples import RunSamples
from assay.callbacks.gallery.tab.plugin import SamplesPlugin
from assay.callbacks.history.marks import Mark, add_marks

COUNT = 60
ID = "valid-{:03}.png".format


@pytest.fixture
def run(tmp_path):
    folder = write_samples(tmp_path / "run", count=COUNT)
    write_groups(folder, COUNT, [(7, 1), (3, 2)], stuck={1})
    return tmp_path / "run"


@pytest.fixture
def ask(run):
    apps = SamplesPlugin(TBContext(logdir=str(run.parent), flags=None)).get_plugin_apps()
    client = Client(lambda environ, start: apps[environ["PATH_INFO"]](environ, start))

    def ask(route, *, post, status=200, **given):
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
        texts = {"run": "run", "loader": "valid"} | texts
        answer = client.post(f"/{route}", data=texts) if post else client.get(f"/{route}", query_string=texts)
        assert answer.status_code == status, answer.text
        return answer.json

    return ask


def ids_of(answer):
    return answer["table"]["columns"]["id"]["data"]


@pytest.mark.parametrize("post", [False, True])
def test_marks_that_only_the_browser_has_filter_and_count_over_the_saved_ones(run, ask, post):
    add_marks(run / "marks.csv", [Mark("valid", ID(1), "skip"), Mark("valid", ID(2), "skip")])
    own = {ID(2): "", ID(4): "skip", ID(5): "look_again"}
    wanted = {"filters": {"marks": ["skip"]}}
    assert ids_of(ask("query", post=post, q=wanted, own=own)) == [ID(1), ID(4)]
    assert ids_of(ask("query", post=post, q=wanted)) == [ID(1), ID(2)]
    counts = ask("facets", post=post, filters={}, own=own)["marks"]
    assert sorted(counts) == [["look_again", 1], ["skip", 2]]
    confused = ask("aggregate", post=post, kind="confusion", filters={"marks": ["skip"]}, own=own)
    assert np.sum(confused["counts"]) == 2
    # Nothing of it is saved.
    assert (run / "marks.csv").read_text().count("\n") == 3


def test_more_marks_than_an_address_holds_are_posted(ask, monkeypatch):
    own = {f"{'long' * 20}-{number}": "skip" for number in range(20_000)} | {ID(9): "skip"}
    answer = ask("query", post=True, q={"filters": {"marks": ["skip"]}}, own=own)
    assert answer["total"] == 1 and ids_of(answer) == [ID(9)]
    monkeypatch.setattr("assay.callbacks.gallery.tab.answers._MOST_ASKED", 1 << 20)
    ask("query", post=True, status=413, own={"a" * (2 << 20): "skip"})


def test_own_marks_that_are_no_texts_are_refused(ask):
    assert "own must be" in ask("query", post=True, status=400, own={"a": 1})["error"]


def test_a_page_in_the_usual_order_comes_with_the_counts_of_choices(ask):
    first = ask("query", post=False, q={"sort": "usual", "limit": 3}, **{"with": "facets"})
    assert ids_of(first)[:2] == [ID(7), ID(3)]
    assert (first["sort"], first["descending"]) == ("suspect_rank", False)
    assert first["facets"] == ask("facets", post=False, filters={})
    # Without a suspect among them the largest loss is first.
    wrong = {"filters": {"groups": ["stuck"]}, "sort": "usual"}
    second = ask("query", post=False, q=wrong)
    assert (second["sort"], second["descending"], second["total"]) == ("loss", True, 1)


def test_thumbnails_are_listed_once_for_a_page_and_again_when_the_folder_changes(run, monkeypatch):
    folder = run / "samples" / "valid"
    write_thumbnails(folder, [(number, "image", JPEG + bytes([number])) for number in range(40)])
    samples, listed, plain = RunSamples(run), [], RunFolder.files
    monkeypatch.setattr(RunFolder, "files", lambda self, *parts: listed.append(parts) or plain(self, *parts))
    for number in range(40):
        assert samples.thumbnail("valid", number) == JPEG + bytes([number])
    assert len(listed) < 10  # a second may end meanwhile
    write_thumbnails(folder, [(3, "image", JPEG + b"new")], epoch=2)
    assert samples.thumbnail("valid", 3) == JPEG + b"new"


def test_tables_of_two_epochs_read_the_values_of_the_run_once(run, monkeypatch):
    samples, opened, plain = RunSamples(run), [], RunFolder.open
    monkeypatch.setattr(RunFolder, "open", lambda self, *parts: opened.append(parts[-1]) or plain(self, *parts))
    tables = [samples.table("valid", epoch) for epoch in (1, 2, 3)]
    assert [table.epoch for table in tables] == [1, 2, 3]
    assert opened.count("running.parquet") == opened.count("groups.parquet") == 1
    np.testing.assert_array_equal(tables[0].columns["aum"], tables[2].columns["aum"])


def test_two_runs_are_filtered_counted_and_paged_by_the_server(run, ask):
    other = run.parent / "other"
    write_samples(other, count=COUNT + 10, seed=1)
    mine, theirs = (RunSamples(one).table("valid").columns["correct"][:COUNT] for one in (run, other))
    found = ask("query", post=False, other="other", q={"sort": "usual", "limit": 100}, **{"with": "facets"})
    assert (found["total"], found["sort"], found["descending"]) == (COUNT, "change", False)
    counts = dict(found["facets"]["change"])
    for kind, here, there in (("better", 1, 0), ("worse", 0, 1), ("right", 1, 1), ("wrong", 0, 0)):
        expected = [ID(row) for row in range(COUNT) if mine[row] == here and theirs[row] == there]
        assert counts.get(kind, 0) == len(expected)
        page = ask("query", post=True, other="other", q={"filters": {"change": [kind]}, "limit": 100})
        assert ids_of(page) == expected
        cells = ask("aggregate", post=False, other="other", kind="confusion", filters={"change": [kind]})
        assert np.sum(cells["counts"]) == len(expected)
    of_class = {"kind": "precision_recall", "options": {"class": 2}}
    # All samples of the first run are in the other one too, so that the curve is that of the first.
    assert ask("aggregate", post=False, other="other", **of_class) == ask("aggregate", post=False, **of_class)
    assert "change" in ask("query", post=False, other="other", status=400, q={"filters": {"change": ["?"]}})["error"]
    assert ask("query", post=False, q={"filters": {"change": ["better"]}})["total"] == 0


def test_scores_are_better_or_worse_where_they_differ_clearly(tmp_path):
    from assay.callbacks.gallery.compare import compare
    from assay.callbacks.gallery.query import facets, query
    from assay.callbacks.gallery.table import Table

    def table(scores):
        ids = pa.array([str(number) for number in range(len(scores))], pa.large_string())
        columns = {"index": np.arange(len(scores), dtype=np.int32), "score": np.array(scores, np.float32)}
        return Table("run", "valid", "segmentation", None, 1, (1,), ids, columns)

    both = compare(table([0.9, 0.5, 0.5, np.nan]), table([0.5, 0.9, 0.52, 0.1]))
    assert facets(both, {})["change"] == [["better", 1], ["worse", 1]]
    assert query(both, {"filters": {"change": ["worse"]}})[1].tolist() == [1]
    np.testing.assert_allclose(both.columns["change"], [0.4, -0.4, -0.02, np.nan], atol=1e-6)


def test_an_infinite_loss_is_told_as_such(run, ask):
    path = run / "samples" / "valid" / "epoch-000003.parquet"
    table = pq.read_table(path)
    loss = table["loss"].to_numpy().copy()
    loss[[2, 3]] = np.inf, np.nan
    pq.write_table(table.set_column(table.schema.get_field_index("loss"), "loss", pa.array(loss)), path)
    assert [line[2] for line in ask("curves", post=False, index="2,3")["loss"]] == ["inf", None]
