"""Who may save marks, and what is never written or read."""

import json
import os
from argparse import ArgumentParser, Namespace
from concurrent.futures import ThreadPoolExecutor

import pytest
from made_samples import write_samples
from tensorboard.plugins.base_plugin import TBContext
from tensorboard_server import serve
from werkzeug.test import Client

from assay.callbacks.gallery.compare import compare
from assay.callbacks.gallery.tab import answers
from assay.callbacks.gallery.tab.plugin import SamplesLoader
from assay.callbacks.gallery.tab.run_search import RunSearch, named_folders
from assay.callbacks.history.marks import read_marks

MARK = {"loader": "valid", "sample_id": "valid-003.png", "mark": "skip", "label": ""}


@pytest.fixture
def run(tmp_path):
    write_samples(tmp_path / "runs" / "run")
    return tmp_path / "runs" / "run"


def flags_of(*arguments, **values):
    parser = ArgumentParser()
    SamplesLoader().define_flags(parser)
    defaults = {"host": None, "bind_all": False, "logdir_spec": ""}
    return Namespace(**(defaults | vars(parser.parse_args(arguments)) | values))


def client_of(run, flags):
    plugin = SamplesLoader().load(TBContext(logdir=str(run.parent), flags=flags))
    apps = plugin.get_plugin_apps()
    return Client(lambda environ, start: apps[environ["PATH_INFO"]](environ, start))


def post(client, headers=None, **options):
    options = {"json": {"marks": [MARK]}, "base_url": "http://localhost:6006"} | options
    return client.post("/marks", query_string={"run": "run"}, headers=headers or {}, **options)


LOCAL = [{}, {"host": "localhost"}, {"host": "127.0.0.1"}, {"host": "127.3.2.1"}, {"host": "::1"}]


@pytest.mark.parametrize("values", LOCAL)
@pytest.mark.parametrize(
    "address", ["http://localhost:6006", "http://127.0.0.1", "http://[::1]:6006", "http://LocalHost."]
)
def test_who_is_at_the_machine_may_mark(run, values, address):
    client = client_of(run, flags_of(**values))
    assert client.get("/runs", base_url=address).json["may_mark"] is True
    assert post(client, base_url=address).json == {"marks": [MARK]}


@pytest.mark.parametrize(
    ("flags", "headers", "why"),
    [
        (flags_of(bind_all=True), {}, "the server listens to all addresses of the machine and not to localhost alone"),
        (flags_of(host="0.0.0.0"), {}, "the server listens to '0.0.0.0' and not to localhost alone"),
        (flags_of(host="10.1.2.3"), {}, "the server listens to '10.1.2.3'"),
        (flags_of(host="localhost.evil.example"), {}, "the server listens to 'localhost.evil.example'"),
        (flags_of(host="::"), {}, "the server listens to '::'"),
        (None, {}, "the address of the server is not known"),
        # A name that was made to lead to this machine, and a proxy that others may use.
        (flags_of(), {"Host": "evil.example:6006"}, "the server is addressed as 'evil.example'"),
        (flags_of(), {"X-Forwarded-Host": "board.example"}, "the server is addressed as 'board.example'"),
        (flags_of(), {"Referer": "https://board.example/a/"}, "the server is addressed as 'board.example'"),
    ],
)
def test_others_may_not_unless_a_flag_allows_it(run, flags, headers, why):
    client = client_of(run, flags)
    told = client.get("/runs", headers=headers).json
    assert told["may_mark"] is False
    assert why in told["why_not"]
    answer = post(client, headers)
    assert (answer.status_code, answer.json["error"]) == (403, told["why_not"])
    assert "start TensorBoard with --samples_allow_marks to allow it" in answer.json["error"]
    assert not (run / "marks.csv").exists()
    if flags is not None:
        client = client_of(run, Namespace(**(vars(flags) | vars(flags_of("--samples_allow_marks")))))
        assert client.get("/runs", headers=headers).json["may_mark"] is True
        assert post(client, headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:8888"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:6006"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_no_page_of_another_site_marks(run, headers):
    client = client_of(run, flags_of("--samples_allow_marks"))
    answer = post(client, headers)
    assert answer.status_code == 403
    assert answer.json["error"].startswith("marks cannot be saved from a page of another site")
    assert not (run / "marks.csv").exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:6006"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:6006"},
        {"Origin": "https://board.example", "X-Forwarded-Host": "board.example"},
    ],
)
def test_the_own_page_marks(run, headers):
    assert post(client_of(run, flags_of("--samples_allow_marks")), headers).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_does_not_mark(run, kind):
    data = json.dumps({"marks": [MARK]})
    answer = post(client_of(run, flags_of()), json=None, data=data, content_type=kind)
    assert answer.status_code == 403
    assert "marks must come as application/json" in answer.json["error"]
    assert not (run / "marks.csv").exists()


def test_too_much_at_once_is_refused(run):
    answer = post(client_of(run, flags_of()), json={"marks": [MARK | {"label": "a" * (5 << 20)}]})
    assert answer.status_code == 413
    assert answer.json["error"].startswith("marks must have at most 4,194,304 bytes")


@pytest.mark.parametrize("name", ["marks.csv", ".marks.csv.lock"])
def test_no_link_is_followed_to_write(run, tmp_path, name):
    outside = tmp_path / "outside.csv"
    outside.write_text("loader,sample_id,mark,label\nvalid,secret,skip,\n")
    (run / name).symlink_to(outside)
    client = client_of(run, flags_of())
    assert post(client).status_code == 403
    assert "secret" in outside.read_text()
    assert client.get("/marks", query_string={"run": "run"}).json == {"marks": []}
    assert client.get("/marks.csv", query_string={"run": "run"}).status_code == 404


def test_a_folder_that_cannot_be_written_is_said(run, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(answers, "add_marks", refuse)
    answer = post(client_of(run, flags_of()))
    assert answer.status_code == 403
    assert answer.json["error"] == "marks cannot be saved in the folder of the run: Permission denied."


def test_a_file_of_marks_that_is_wrong_is_named(run):
    (run / "marks.csv").write_text("a,b\n")
    client = client_of(run, flags_of())
    assert "line 1" in client.get("/marks", query_string={"run": "run"}).json["error"]
    assert post(client).status_code == 400


def test_many_at_once_lose_no_mark(run):
    client_of(run, flags_of())
    ids = [f"valid-{number:03}.png" for number in range(60)]

    def mark(name):
        return post(client_of(run, flags_of()), json={"marks": [MARK | {"sample_id": name}]}).status_code

    with ThreadPoolExecutor(8) as people:
        assert set(people.map(mark, ids)) == {200}
    assert sorted(mark.sample_id for mark in read_marks(run / "marks.csv")) == ids


def test_the_flag_is_one_of_tensorboards(run, tmp_path):
    with serve(run.parent, tmp_path / "log.txt", "--samples_allow_marks") as server:
        address, body = "plugin/assay_samples/marks?run=run", {"marks": [MARK]}
        assert server.post(address, body) == {"marks": [MARK]}


def test_a_whole_table_of_too_many_samples_is_refused(run, monkeypatch):
    monkeypatch.setattr(answers, "MOST_ROWS", 59)
    client = client_of(run, flags_of())
    of = {"run": "run", "loader": "valid"}
    for route in ("/table", "/compare"):
        answer = client.get(route, query_string=of | {"other": "run"})
        assert (answer.status_code, "ask by query" in answer.json["error"]) == (413, True)
    assert client.get("/query", query_string=of).json["total"] == 60
    answer = client.get("/curves", query_string=of | {"index": ",".join(["1"] * 1001)})
    assert answer.status_code == 413


def test_a_comparison_is_made_once_until_a_run_goes_on(run, monkeypatch):
    made = []
    monkeypatch.setattr(answers, "compare", lambda *tables: made.append(tables) or compare(*tables))
    write_samples(run.parent / "other", epochs=1, seed=1)
    client = client_of(run, flags_of())
    of = {"run": "run", "other": "other", "loader": "valid", "q": '{"sort": "loss.other", "limit": 1}'}
    first = client.get("/compare", query_string=of).json
    assert (client.get("/compare", query_string=of).json, len(made)) == (first, 1)
    write_samples(run.parent / "other", epochs=2, seed=1)
    assert client.get("/compare", query_string=of).json["table"] != first["table"]
    assert len(made) == 2


def test_answers_are_compressed_where_they_go_over_a_network(run):
    client, of = client_of(run, flags_of()), {"run": "run", "loader": "valid"}
    accepts = {"Accept-Encoding": "gzip"}
    near = client.get("/table", query_string=of, headers=accepts, environ_overrides={"REMOTE_ADDR": "127.0.0.1"})
    far = client.get("/table", query_string=of, headers=accepts, environ_overrides={"REMOTE_ADDR": "10.0.0.9"})
    assert "Content-Encoding" not in near.headers
    assert far.headers["Content-Encoding"] == "gzip"
    assert near.json["count"] == 60


def test_runs_are_found_behind_links_and_each_once(run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    write_samples(elsewhere / "linked", count=8, epochs=1)
    os.symlink(elsewhere, run.parent / "more")
    os.symlink(run.parent, elsewhere / "circle")
    write_samples(run.parent / ".hidden", count=8, epochs=1)
    (run.parent / "half" / "samples" / "valid").mkdir(parents=True)
    assert list(RunSearch(named_folders(str(run.parent), None)).runs()) == ["more/linked", "run"]
    assert list(RunSearch(named_folders(str(run), None)).runs()) == ["."]
    assert not RunSearch(named_folders(str(tmp_path / "missing"), None)).any()


def test_a_new_run_is_found_after_a_while(run, monkeypatch):
    monkeypatch.setattr("assay.callbacks.gallery.tab.run_search._PAUSE_S", 0.0)
    monkeypatch.setattr("assay.callbacks.gallery.tab.run_search._SHARE", 1e9)
    search = RunSearch(named_folders(str(run.parent), None))
    assert list(search.runs()) == ["run"]
    write_samples(run.parent / "another", count=8, epochs=1)
    assert list(search.runs()) == ["another", "run"]


@pytest.mark.parametrize(
    ("logdir", "spec", "expected"),
    [
        ("/a/b", None, {"": "/a/b"}),
        ("gs://bucket/a", None, {}),
        (None, "x:/a,/b:c,s3://d,y:gs://e,", {"x": "/a", "/b:c": "/b:c"}),
        ("", "", {}),
    ],
)
def test_the_folders_are_those_of_tensorboard(logdir, spec, expected):
    assert {name: str(path) for name, path in named_folders(logdir, spec).items()} == expected
