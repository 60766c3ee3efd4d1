import threading

import pytest

from assay.callbacks.results.result_files import Arrivals, PictureNames, file_name


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("1_overview/worst/loss", "worst_loss.png"),
        ("confusion_matrix", "confusion_matrix.png"),
        ("2_confusion_matrix/by_group/1_a", "confusion_matrix_by_group_1_a.png"),
        ("a b?/../c", "a_b_.._c.png"),
        ("../../etc/passwd", "etc_passwd.png"),
        ("???", "_.png"),
    ],
)
def test_a_tag_becomes_a_file_name(tag, name):
    assert PictureNames().name(tag) == name


def test_tags_that_would_share_a_file_name_get_names_of_their_own():
    names = PictureNames()
    tags = ["1_a/b", "2_a/b", "1_a/b", "2_a/b", "a/b"]
    found = [names.name(tag) for tag in tags]
    assert found[:2] == found[2:4]
    assert len(set(found)) == 3


def test_a_long_tag_fits_a_file_system():
    assert len(file_name("ä" * 500).encode()) <= 255


def test_the_last_of_several_threads_does_the_work_once():
    done = []
    arrivals = Arrivals(8, lambda: done.append(threading.current_thread()))
    threads = [threading.Thread(target=arrivals.arrive) for _ in range(8)]
    for thread in threads[:7]:
        thread.start()
    for thread in threads[:7]:
        thread.join()
    assert done == []
    threads[7].start()
    threads[7].join()
    assert done == [threads[7]]
