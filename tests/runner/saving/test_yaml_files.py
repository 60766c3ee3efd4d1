"""Files of fields: what is none is refused in one line, and what stands for gigabytes before it takes them."""

import time

import pytest
from toy_fields import Toy

from assay.runner import UsageError
from assay.runner.commands.experiment_flags import parse_experiment
from assay.runner.saving.run_folder import read_config
from assay.runner.saving.yaml_files import read_fields


def bomb(levels):
    """Return a file of a kilobyte that stands for 10 ** levels values."""
    lines = ["a0: &a0 [1]"] + [
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, levels + 1)
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "hold fields with their values, such as 'epochs: 3', got None"),
        ("epochs", "hold fields with their values, such as 'epochs: 3', got 'epochs'"),
        ("- epochs: 3", "hold fields with their values"),
        ("[[a, 1]]", "hold fields with their values"),
        ("epochs: [1", "be a YAML file: while parsing a flow sequence"),
        ("epochs: *a", "be a YAML file: found undefined alias"),
        ("epochs: !!python/object:os.system {}", "be a YAML file: could not determine a constructor"),
        ("epochs: \x00", "be a YAML file: unacceptable character"),
        ("epochs: 3\nlr: 1\nepochs: 5", "name a field once, and names 'epochs' 2 times"),
        ("a: &a [*a]", "be nested at most 50 deep"),
        ("a: " + "[" * 60 + "]" * 60, "be nested at most 50 deep"),
        ("a: " + "[" * 500, "be nested at most 50 deep"),
        (bomb(4), r"hold at most 10000 values, and holds \d{5}"),
        (bomb(9), r"hold at most 10000 values, and holds \de\+09"),
        (bomb(400), "hold at most 10000 values, and holds far more"),
        ("b: &b {x: 1}\n" + "\n".join(f"k{i}: {{<<: *b}}" for i in range(5000)), "hold at most 10000 values"),
        ("a: 1 #" + "x" * 1_000_000, "be at most a megabyte"),
    ],
)
def test_what_is_no_file_of_fields_is_refused_in_a_moment(tmp_path, text, rule):
    (tmp_path / "fields.yaml").write_text(text)
    began = time.perf_counter()
    with pytest.raises(UsageError, match=f"^--config must {rule}") as refused:
        read_fields(tmp_path / "fields.yaml", what="--config")
    assert time.perf_counter() - began < 15
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "fields.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="must be a YAML file"):
        read_fields(tmp_path / "fields.yaml", what="it")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UsageError, match="it cannot be read: No such file"):
        read_fields(tmp_path / "fields.yaml", what="it")


def test_aliases_are_taken_as_a_run_writes_them_itself(tmp_path):
    (tmp_path / "config.yaml").write_text("milestones: &id001 [1, 2]\nother: *id001\n")
    assert read_config(tmp_path) == {"milestones": [1, 2], "other": [1, 2]}


def test_the_config_of_a_run_names_the_run_and_what_to_do(tmp_path):
    (tmp_path / "config.yaml").write_text(bomb(9))
    with pytest.raises(
        UsageError, match=r"config\.yaml is damaged: put a copy in its place, or start a new run; it must"
    ):
        read_config(tmp_path)


@pytest.mark.parametrize("flag", ["--config", "--resume"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: many", "--epochs must be int, got 'many'"),
        ("epochs: [3]", "--epochs must be int, got"),
        ("epoch: 3", "unknown field in .*config.yaml: 'epoch'; did you mean 'epochs'"),
        ("3: 4", "unknown field in .*config.yaml: '3'"),
        (bomb(9), "must hold at most 10000 values"),
    ],
)
def test_a_field_that_is_wrong_is_refused_from_a_config_and_from_a_run(tmp_path, flag, text, message):
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "environment.json").write_text('{"experiment": "toy"}')
    given = tmp_path if flag == "--resume" else tmp_path / "config.yaml"
    with pytest.raises(UsageError, match=message):
        parse_experiment(Toy, "toy", [flag, str(given)])
