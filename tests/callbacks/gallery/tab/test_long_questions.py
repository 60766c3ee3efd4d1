import json

import numpy as np
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


def test_more_marks_than_an_address_holds_are_posted(ask):
    own = {f"{'long' * 20}-{number}": "skip" for number in range(20_000)} | {ID(9): "skip"}
    answer = ask("query", post=True, q={"filters": {"marks": ["skip"]}}, own=own)
    assert answer["total"] == 1 and ids_of(answer) == [ID(9)]
    ask("query", post=True, status=413, own={"a" * (5 << 20): "skip"})


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
