"""Marks of samples: read, written by several processes at once, and what is wrong with a file of them."""

import multiprocessing
import os
import resource
import signal
import threading

import pytest

from assay.callbacks import UsageError
from assay.callbacks.history.marks import Mark, add_marks, read_marks

HEADER = "loader,sample_id,mark,label\n"


def test_marks_are_read_as_they_were_added(tmp_path):
    path = tmp_path / "marks.csv"
    marks = [Mark("train", "a.png", "wrong_label", "seven"), Mark("valid", "a.png", "skip"), Mark("train", "b", "skip")]
    add_marks(path, marks[:1])
    add_marks(path, marks[1:])
    assert read_marks(path) == marks
    assert path.read_text() == (
        HEADER + "train,a.png,wrong_label,seven\nvalid,a.png,skip,\ntrain,b,skip,\n"
    )  # as a person or a spreadsheet reads it


def test_the_last_line_of_a_sample_counts_and_an_empty_mark_takes_it_back(tmp_path):
    path = tmp_path / "marks.csv"
    add_marks(path, [Mark("train", "a", "skip"), Mark("train", "b", "skip"), Mark("train", "c", "look_again")])
    add_marks(path, [Mark("train", "a", "wrong_label", "3"), Mark("train", "b", "")])
    assert read_marks(path) == [Mark("train", "a", "wrong_label", "3"), Mark("train", "c", "look_again")]
    add_marks(path, [Mark("train", "b", "look_again")])
    assert Mark("train", "b", "look_again") in read_marks(path)


STRANGE = [
    "<script>alert(1)</script>", 'a "quoted", one', "two\nlines", "carriage\rreturn", "both\r\n", "=1+1", "'=1+1",
    "''=1+1", "-1", "'-1", "-1e3", "+x", "@x", "'quoted", "\ttab", "nul\0", "\ud800 alone", "na\u00efve", " ",
    "\ufeffmark",
]  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_strange_ids_loaders_and_labels_come_back_unchanged(tmp_path, name):
    path = tmp_path / "marks.csv"
    marks = [Mark(name, name, "wrong_label", name), Mark("train", "after", "skip")]
    add_marks(path, marks[:1])
    add_marks(path, marks[1:])
    assert read_marks(path) == marks


def test_no_cell_is_a_formula(tmp_path):
    path = tmp_path / "marks.csv"
    add_marks(path, [Mark("train", "=cmd()", "wrong_label", "@x")])
    assert path.read_text() == HEADER + "train,'=cmd(),wrong_label,'@x\n"


def test_files_of_editors_and_spreadsheets_are_read_and_appended_to(tmp_path):
    path = tmp_path / "marks.csv"
    path.write_bytes(b"\xef\xbb\xbfloader,sample_id,mark,label\r\n\r\ntrain,a,skip,")
    add_marks(path, [Mark("train", "b", "skip")])
    assert [mark.sample_id for mark in read_marks(path)] == ["a", "b"]
    path.write_bytes(b'"loader","sample_id","mark","label"\n"train","a","skip",""\n')
    add_marks(path, [Mark("train", "b", "skip")])
    assert [mark.sample_id for mark in read_marks(path)] == ["a", "b"]


def add_many(path, who, count):
    for number in range(count):
        add_marks(path, [Mark("train", f"{who}-{number}-{part}", "skip", "x" * 500) for part in range(20)])


def test_processes_and_threads_that_add_at_once_lose_none(tmp_path):
    path = tmp_path / "marks.csv"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=add_many, args=(path, who, 25)) for who in range(3)]
    workers += [threading.Thread(target=add_many, args=(path, who, 25)) for who in range(3, 5)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        if path.exists():
            read_marks(path)  # never half a line
    for worker in workers:
        worker.join()
    assert all(worker.exitcode == 0 for worker in workers[:3])
    wanted = {f"{who}-{number}-{part}" for who in range(5) for number in range(25) for part in range(20)}
    found = [mark.sample_id for mark in read_marks(path)]
    assert len(found) == len(wanted) and set(found) == wanted
    assert path.read_text().count("\n") == 1 + len(wanted)


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "marks.csv"
    add_marks(path, [Mark("train", "a", "skip")])
    before = path.read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
        with pytest.raises(OSError, match="File too large") as caught:
            add_marks(path, [Mark("train", "b" * 100, "skip")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the first line must be loader,sample_id,mark,label, got ''"),
        ("id;mark\n", "line 1: the first line must be loader,sample_id,mark,label, got 'id;mark'"),
        (HEADER + "train,a,skip,\ntrain,b\n", "line 3: it must have 4 cells, got 2"),
        (HEADER + 'train,"a\nb",skip,\ntrain,a,skipp,\n', "line 4: unknown mark 'skipp'; did you mean 'skip'"),
        (HEADER + "train,,skip,\n", "line 2: a mark needs a sample_id, and it is empty"),
        (HEADER + ",a,skip,\n", "line 2: a mark needs a loader, and it is empty"),
        (HEADER + 'train,"a,skip,\n', "line 2: unexpected end of data"),
        (HEADER + "train,caf\xe9,skip,\n", "line 2: it is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(tmp_path, text, message):
    path = tmp_path / "marks.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        read_marks(path)
    assert str(caught.value).startswith(f"{path}, {message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_is_of_something_else_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no file of marks"):
        read_marks(tmp_path / "none.csv")
    other = tmp_path / "metrics.csv"
    other.write_text("epoch,value\n1,2\n")
    with pytest.raises(UsageError, match="line 1: the first line must be loader"):
        add_marks(other, [Mark("train", "a", "skip")])
    assert other.read_text() == "epoch,value\n1,2\n"


def test_a_lock_that_stays_taken_is_one_clear_error(tmp_path, monkeypatch):
    from filelock import FileLock

    monkeypatch.setattr("assay.callbacks.history.marks._WAIT_S", 0.1)
    with FileLock(tmp_path / ".marks.csv.lock"), pytest.raises(UsageError, match="in use by another process"):
        add_marks(tmp_path / "marks.csv", [Mark("train", "a", "skip")])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_marks_in_a_folder_that_cannot_be_written_are_read(tmp_path):
    path = tmp_path / "marks.csv"
    add_marks(path, [Mark("train", "a", "skip")])
    tmp_path.chmod(0o500)
    try:
        assert len(read_marks(path)) == 1
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("", "a", "skip"), "a mark needs a loader"),
        (("train", "", "skip"), "a mark needs a sample_id"),
        (("train", "a", "wrong"), "unknown mark 'wrong'"),
    ],
)
def test_a_mark_is_checked(fields, message):
    with pytest.raises(UsageError, match=message):
        Mark(*fields)
