from benchmarks import sample_history


def test_files_and_share_are_measured():
    for classes in (3, 300):
        found = sample_history.measure_files(200, classes)
        assert found["bytes_of_epoch"] > 10 and found["bytes_once"] > 20
        # 16 binary digits and the numbers of two classes, for a hundred epochs of 1.3 million samples.
        assert 0.5 < found["gb_of_long_run"] < 20
    share = sample_history.measure_share(4, count=64)
    assert 0 < share["share"] < 1 and share["ms_of_history"] < share["ms_of_step"]
