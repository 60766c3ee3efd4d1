import pytest
from torch.utils.tensorboard import SummaryWriter

from assay.callbacks.gallery.report.class_reports import class_reports, without_repeated
from assay.callbacks.gallery.report.event_scalars import read_texts
from assay.callbacks.support.tables import markdown_table, read_markdown_table

HOSTILE = ["a|b", "<script>alert(1)</script>", "back\\slash\\", "*bold* _x_ `code` [l]", "&lt;", "", "trailing \\|"]


def test_a_table_of_markdown_is_read_as_it_was_written():
    header, rows = ["class", "F1"], [[name, f"0.{number}"] for number, name in enumerate(HOSTILE)]
    assert read_markdown_table("some words\n\n" + markdown_table(header, rows)) == (header, rows)
    assert read_markdown_table("no table | at all") == ([], [])


@pytest.fixture
def run(tmp_path):
    with SummaryWriter(tmp_path / "valid") as writer:
        for epoch in (1, 2):
            rows = [[name, "0.5", f"0.{epoch}"] for name in HOSTILE]
            writer.add_text("1_overview/report", markdown_table(["", "precision", "recall"], rows), epoch)
            writer.add_text("9_other/report", markdown_table(["a"], [["b"]]), epoch)
            writer.add_scalar("1_overview/loss", 1.0, epoch)
    with SummaryWriter(tmp_path / "train") as writer:
        many = [[f"{'long' * 20} {number}", "1"] for number in range(1000)]  # more than numbers may take
        writer.add_text("4_metrics_per_class/curves/second", markdown_table(["", "ROC AUC"], many), 7)
    with SummaryWriter(tmp_path / "evaluate" / "test") as writer:
        writer.add_text("1_overview/report", markdown_table(["", "x"], [["of another", "1"]]), 1)
    return tmp_path


def test_the_tables_of_the_last_epoch_are_those_that_diagnostics_wrote(run):
    metrics = {("valid", "iou/road"): {1: 0.25, 2: 0.5}, ("valid", "ap/road"): {2: 0.75}, ("valid", "loss"): {1: 3.0}}
    written, of_metrics, of_train = class_reports(run, metrics)
    assert (written["loader"], written["epoch"], written["header"]) == ("valid", 2, ["", "precision", "recall"])
    assert written["rows"] == [[name, "0.5", "0.2"] for name in HOSTILE]
    assert (of_metrics["header"], of_metrics["rows"]) == (["", "iou", "ap"], [["road", 0.5, 0.75]])
    assert (of_train["loader"], of_train["epoch"], len(of_train["rows"]), of_train["left_out"]) == (
        "train",
        7,
        200,
        800,
    )
    assert of_train["title"].endswith("second")


def test_what_the_samples_tell_is_not_told_twice(run):
    reports = class_reports(run, {})
    kept = without_repeated(reports, ["valid", "train"])
    assert [one["loader"] for one in kept] == ["train"] and "curves" in kept[0]["kind"]
    assert without_repeated(reports, []) == reports


def test_a_file_that_breaks_off_ends_there(run):
    (path,) = (run / "valid").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert read_texts(run, ["1_overview/report"])["valid", "1_overview/report"][0] == 1
