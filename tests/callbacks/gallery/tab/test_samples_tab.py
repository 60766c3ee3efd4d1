"""The tab Samples through the real server of TensorBoard."""

import base64
import http.client
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from made_samples import JPEG, logits_of, rows_of, write_groups, write_samples, write_thumbnails
from tensorboard_server import serve

from assay.callbacks.gallery.aggregates import aggregate
from assay.callbacks.gallery.query import facets, query
from assay.callbacks.gallery.run_samples import RunSamples
from assay.callbacks.history.files import SampleFiles
from assay.callbacks.history.marks import read_marks

NAME = "assay_samples"
PLUGIN = f"plugin/{NAME}/"
HOSTILE = ["<script>alert(1)</script>", "\"quoted\" 'id'", "a/../../etc/passwd", "tab\tand\nline", "=1+1", "ü💥\u202e"]
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("runs")
    ids = [*HOSTILE, *(f"sample-{number}" for number in range(54))]
    names = ["<b>bold</b>", "b", 'c"', "d\n"]
    folder = write_samples(logdir / "deep" / "er" / "run", "<valid> 'a'", ids=ids, names=names)
    write_groups(folder, 60, [(3, 1)], stuck={1, 2})
    write_thumbnails(folder, [(number, "image", JPEG + bytes([number])) for number in range(10)])
    write_samples(logdir / "deep" / "er" / "run" / "fold-1", "train", count=20)
    write_samples(logdir / HOSTILE[0].replace("/", ""), "train", count=20, seed=1)
    write_samples(logdir / "named as bytes", "train", count=20)
    os.rename(logdir / "named as bytes", os.fsencode(logdir) + b"/caf\xe9")
    return logdir


@pytest.fixture(scope="module")
def server(logdir, tmp_path_factory):
    with serve(logdir, tmp_path_factory.mktemp("server") / "log.txt") as server:
        yield server


RUN = {"run": "deep/er/run", "loader": "<valid> 'a'"}


def status_of(server, path, **query):
    return refusal(lambda: server.get(PLUGIN + path, **query))


def refusal(request):
    """Return the status and the line with which a request is refused."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        request()
    with caught.value as error:
        answer = json.loads(error.read())
    assert list(answer) == ["error"]
    assert "\n" not in answer["error"]
    return error.code, answer["error"]


def columns_of(document):
    found = {}
    for name, column in document["columns"].items():
        data = column["data"]
        is_text = column["type"] == "text"
        found[name] = data if is_text else np.frombuffer(base64.b64decode(data), f"<{np.dtype(column['type']).str[1:]}")
    return found


def test_the_runs_are_found_at_any_depth_and_under_any_name(server):
    found = server.json(PLUGIN + "runs")
    names = {"deep/er/run", "deep/er/run/fold-1", "<script>alert(1)<script>", "caf\\xe9"}
    assert {run["run"] for run in found["runs"]} == names
    assert (found["may_mark"], found["why_not"]) == (True, "")
    (loader,) = next(run["loaders"] for run in found["runs"] if run["run"] == RUN["run"])
    assert loader == {
        "loader": RUN["loader"], "task": "multiclass", "classes": ["<b>bold</b>", "b", 'c"', "d\n"], "count": 60,
        "epochs": [1, 2, 3], "thumbnails": 10, "findings": [], "error": "",
    }  # fmt: skip
    for name in names:
        for loader in ("train", RUN["loader"]):
            if (loader == "train") != (name == RUN["run"]):
                assert server.json(PLUGIN + "table", run=name, loader=loader)["epoch"] == 3


def test_the_tab_is_there_with_the_rest_of_the_tabs(server):
    listed = server.json("plugins_listing")
    assert listed[NAME]["tab_name"] == "Samples"
    assert listed[NAME]["loading_mechanism"] == {"type": "IFRAME", "module_path": f"/data/plugin/{NAME}/index.js"}
    has_front_end = (ROOT / "callbacks/gallery/web/index.js").is_file()
    assert listed[NAME]["enabled"] == has_front_end


def test_tables_and_pages_have_the_bytes_of_the_columns(server, logdir):
    table = RunSamples(logdir / RUN["run"]).table(RUN["loader"], 2)
    document = server.json(PLUGIN + "table", **RUN, epoch=2)
    columns = columns_of(document)
    assert document["count"] == 60
    assert columns.pop("id") == table.ids.to_pylist() == [*HOSTILE, *(f"sample-{number}" for number in range(54))]
    assert columns.keys() == table.columns.keys()
    for name, values in columns.items():
        np.testing.assert_array_equal(values, table.columns[name])
    wanted = {"filters": {"correct": "wrong"}, "sort": "loss", "descending": True, "limit": 5, "offset": 1}
    page = server.json(PLUGIN + "query", **RUN, epoch=2, q=json.dumps(wanted))
    total, rows = query(table, wanted)
    assert page["total"] == total
    assert columns_of(page["table"])["index"].tolist() == rows.tolist()
    for kind, options in (("confusion", {}), ("distribution", {"column": "loss"}), ("precision_recall", {"class": 1})):
        filters = {"groups": ["stuck"]} if kind == "confusion" else {}
        found = server.json(
            PLUGIN + "aggregate", **RUN, epoch=2, kind=kind, options=json.dumps(options), filters=json.dumps(filters)
        )
        assert found == aggregate(table, kind, options, filters)
    filters = {"correct": "wrong"}
    assert server.json(PLUGIN + "facets", **RUN, epoch=2, filters=json.dumps(filters)) == facets(table, filters)


def test_curves_samples_and_comparisons(server, logdir):
    run = RunSamples(logdir / RUN["run"])
    assert server.json(PLUGIN + "curves", **RUN, index="3,1") == run.curves(RUN["loader"], [3, 1])
    assert server.json(PLUGIN + "curves", **RUN, index="")["epochs"] == [1, 2, 3]
    assert server.json(PLUGIN + "sample", **RUN, index=4) == run.sample(RUN["loader"], 4)
    one, two = "deep/er/run/fold-1", "<script>alert(1)<script>"
    both = server.json(PLUGIN + "compare", run=one, other=two, loader="train")
    assert both["count"] == 20
    assert {"loss", "loss.other"} <= both["columns"].keys()
    page = server.json(PLUGIN + "compare", run=one, other=two, loader="train", q='{"limit": 2}')
    assert (page["total"], page["table"]["count"]) == (20, 2)


def test_a_thumbnail_is_a_picture_and_is_sent_once(server):
    address = f"{server.address}data/{PLUGIN}thumbnail?run={quote(RUN['run'])}&loader={quote(RUN['loader'])}&index=7"
    with server.opener.open(address) as answer:
        assert answer.read() == JPEG + b"\7"
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        tag = answer.headers["ETag"]
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.opener.open(urllib.request.Request(address, headers={"If-None-Match": tag}))
    with caught.value as answer:
        assert answer.code == 304


@pytest.mark.parametrize(
    ("route", "query"),
    [
        *(("table", {"run": name}) for name in ("..", "/", "/etc", "deep/er/run/..", "deep/er/run\0", "deep", "", ".")),
        *(("table", {"loader": name}) for name in ("..", "../../fold-1/samples/train", "/etc", "_valid_ _a_\0", "")),
        ("table", {"epoch": "9"}),
        ("compare", {"other": "../.."}),
        ("sample", {"index": "60"}),
        *(("thumbnail", {"index": "1", "kind": kind}) for kind in ("../image", "\0", "/etc/passwd", "drawn")),
        ("marks.csv", {"run": "../.."}),
        ("marks.csv", {}),
    ],
)
def test_what_is_not_there_is_not_found(server, route, query):
    assert status_of(server, route, **(RUN | query))[0] == 404


@pytest.mark.parametrize(
    ("route", "query", "message"),
    [
        ("table", {"epoch": "-1"}, "epoch must be a whole number, got '-1'."),
        ("table", {"epoch": "1e3"}, "epoch must be a whole number, got '1e3'."),
        ("curves", {"index": "1,x"}, "index must be a whole number, got 'x'."),
        ("sample", {}, "the address needs the parameter 'index'."),
        ("query", {"q": "{"}, "q must be JSON: "),
        ("query", {"q": "[" * 100_0}, "q must be JSON: "),
        ("query", {"q": "[]"}, "q must be a JSON object, got '[]'."),
        ("query", {"q": '{"sort": "\\u0000"}'}, "unknown column '\\x00'"),
        ("aggregate", {"kind": "<script>"}, "unknown kind of aggregate '<script>'"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_in_a_line(server, route, query, message):
    status, said = status_of(server, route, **(RUN | query))
    assert status == 400
    assert said.startswith(message)


@pytest.mark.parametrize(
    "path",
    ["../../../setup.cfg", "..%2f..%2fsetup.cfg", "%2e%2e/plugin.py", "web/index.js", "tab/plugin.py", "__init__.py"],
)
def test_nothing_but_the_front_end_is_served(server, path):
    connection = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=60)
    connection.request("GET", f"/data/{PLUGIN}{path}")
    assert connection.getresponse().status == 404
    connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_is_changed_but_by_marks(server, method):
    for route in ("runs", "table", "marks.csv", *(["marks"] if method != "POST" else [])):
        address = f"{server.address}data/{PLUGIN}{route}?run={quote(RUN['run'])}"
        request = urllib.request.Request(address, b"{}", method=method)
        assert refusal(lambda request=request: server.opener.open(request))[0] == 405


def test_marks_are_saved_as_they_are_and_filter(server, logdir):
    path, address = logdir / RUN["run"] / "marks.csv", f"{PLUGIN}marks?run={RUN['run']}"
    marks = [{"loader": RUN["loader"], "sample_id": name, "mark": "skip", "label": ""} for name in HOSTILE]
    marks[1] |= {"mark": "wrong_label", "label": "<b>bold</b>"}
    assert server.post(address, {"marks": marks}) == {"marks": marks}
    assert [vars(mark) for mark in read_marks(path)] == marks
    assert server.json(PLUGIN + "marks", run=RUN["run"]) == {"marks": marks}
    assert server.get(PLUGIN + "marks.csv", run=RUN["run"]) == path.read_bytes()
    page = server.json(PLUGIN + "query", **RUN, q='{"filters": {"marks": ["skip"]}}')
    assert columns_of(page["table"])["id"] == [HOSTILE[0], *HOSTILE[2:]]
    server.post(address, {"marks": [marks[0] | {"mark": ""}]})
    assert server.json(PLUGIN + "marks", run=RUN["run"]) == {"marks": marks[1:]}
    before = path.read_bytes()
    for wrong, message in (
        ({"marks": [marks[0], marks[1] | {"sample_id": "missing"}]}, "has no sample 'missing'"),
        ({"marks": [marks[0] | {"loader": "../valid"}]}, "has no samples of loader '../valid'"),
        ({"marks": [marks[0] | {"mark": "skp"}]}, "unknown mark 'skp'; did you mean 'skip'"),
        ({"marks": [marks[0] | {"label": 3}]}, "must be texts without NUL"),
        ({"marks": [marks[0] | {"label": "a\0"}]}, "must be texts without NUL"),
        ({"marks": [marks[0] | {"path": "/etc"}]}, "a mark must have loader, sample_id, mark and perhaps label."),
        ({"marks": "all"}, 'marks must come as {"marks": [...]}.'),
        ([], 'marks must come as {"marks": [...]}.'),
    ):
        status, said = refusal(lambda wrong=wrong: server.post(address, wrong))
        assert status in (400, 404)
        assert message in said
    assert path.read_bytes() == before


def test_two_servers_that_save_marks_at_once_lose_none(server, tmp_path, logdir):
    run, each = "deep/er/run/fold-1", 10
    with serve(logdir, tmp_path / "log.txt") as other:
        # Each of four people marks samples of their own, one by one.
        def mark(person):
            for number in range(each // 2):
                name = f"train-{person * 5 + number:03}.png"
                mark = {"loader": "train", "sample_id": name, "mark": "look_again"}
                (server, other)[person % 2].post(f"{PLUGIN}marks?run={run}", {"marks": [mark]})

        with ThreadPoolExecutor(4) as people:
            list(people.map(mark, range(4)))
        found = other.json(PLUGIN + "marks", run=run)["marks"]
    assert sorted(mark["sample_id"] for mark in found) == [f"train-{number:03}.png" for number in range(20)]
    assert (logdir / run / "marks.csv").read_text().count("\n") == 21


def test_a_run_that_writes_is_read_at_any_moment(server, logdir):
    run, count, epochs = logdir / "deep" / "writing", 300, 25
    logits, target = logits_of(count, 4, epochs)
    ids = [f"s{number}" for number in range(count)]
    files = SampleFiles(run / "samples" / "train", {"loader": "train", "task": "multiclass", "class_names": None})
    files.add(1, rows_of(logits[0], target, ids))
    server.wait(lambda server: "deep/writing" in {one["run"] for one in server.json(PLUGIN + "runs")["runs"]})
    done = threading.Event()

    def write():
        try:
            for again in range(2):  # the second time it goes on from an older checkpoint
                files.cut(1 + 9 * again)
                for epoch in range(2 + 9 * again, epochs + 1):
                    files.add(epoch, rows_of(logits[epoch - 1], target, ids))
        finally:
            done.set()

    writer, seen = threading.Thread(target=write), set()
    writer.start()
    while not done.is_set():
        document = server.json(PLUGIN + "table", run="deep/writing", loader="train")
        columns = columns_of(document)
        epoch = document["epoch"]
        seen.add(epoch)
        assert columns["prediction"].tolist() == logits[epoch - 1].argmax(axis=1).tolist()
        # The values of the run are those of one moment, or are not there for a moment.
        assert len(set(columns.get("seen", [epoch]))) == 1
        assert server.json(PLUGIN + "curves", run="deep/writing", loader="train", index="0")["epochs"][0] == 1
    writer.join()
    assert server.json(PLUGIN + "table", run="deep/writing", loader="train")["epoch"] == epochs
    assert len(seen) > 1


def test_the_server_loads_neither_torch_nor_catalyst(server):
    server.json(PLUGIN + "runs")
    loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "pyarrow" in loaded
    assert "torch" not in loaded


@pytest.mark.parametrize("missing", [[], ["catalyst", "torch", "pyarrow"]])
def test_the_start_of_tensorboard_loads_nothing_else(missing):
    code = f"""
import sys
for name in {missing}:
    sys.modules[name] = None
from tensorboard import default, main
from importlib.metadata import entry_points
default.get_static_plugins()
before = set(sys.modules)
(entry,) = [one for one in entry_points(group="tensorboard_plugins") if one.name == {NAME!r}]
assert entry.load() in default.get_dynamic_plugins()
print(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['assay', 'tensorboard']"


def test_without_pyarrow_the_tab_is_off_and_a_line_says_why(logdir, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pyarrow'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serve(logdir, tmp_path / "log.txt") as server:
        for _ in range(2):
            assert server.json("plugins_listing")[NAME]["enabled"] is False
        assert "pip install 'catalyst-assay[samples]'" in status_of(server, "runs")[1]
        assert server.log.read_text().count("the tab Samples is off, as pyarrow is not installed") == 1


def test_behind_a_prefix_with_several_named_folders_and_the_slow_loader(logdir, tmp_path):
    specs = f"first:{logdir / 'deep'},{logdir / 'deep/er/run/fold-1'},s3://bucket/runs"
    options = ["--logdir", "", "--logdir_spec", specs, "--path_prefix", "/a/b", "--load_fast=false"]
    with serve("", tmp_path / "log.txt", *options) as server:
        server.address += "a/b/"
        names = {one["run"] for one in server.json(PLUGIN + "runs")["runs"]}
        assert names - {"first/writing"} == {"first/er/run", "first/er/run/fold-1", str(logdir / "deep/er/run/fold-1")}
        listed = server.json("plugins_listing")[NAME]["loading_mechanism"]
        assert listed["module_path"] == f"/a/b/data/plugin/{NAME}/index.js"
        assert server.json(PLUGIN + "table", run="first/er/run", loader=RUN["loader"])["count"] == 60
