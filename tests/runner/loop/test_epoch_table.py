"""The table of epochs: what it shows of many metrics, how wide it is, and what it looks like on a terminal."""

import io
import math
import os
import pty
import subprocess
import sys

import pytest

from assay.runner.loop.epoch_table import EpochTable, duration, shows_colour, terminal_width

LOSSES = ("loss", "loss_cls", "loss_box", "loss_obj", "loss_rpn")
METRICS = {
    key: {**dict.fromkeys(LOSSES, 0.5), "map": 0.25, "a_long_name_of_a_metric": 1.0} for key in ("train", "valid")
}


def table(width, metrics=METRICS, best_by="valid/map", **options):
    return EpochTable(10, best_by).lines(3, metrics, 61.25, width=width, **options)


def columns(lines):
    """Return the columns of a table as (loader, metric), by where their names end."""
    above, below, line = lines[-3:]
    assert line.startswith("epoch  3/10  ")
    loaders = {at: word for word in set(above.split()) for at in [above.index(word) + len(word)]}
    found, loader = [], None
    for name, end in ((word, at) for at, word in ends(below)):
        loader = loaders.get(end, loader)
        found.append((loader, name))
    assert found.pop()[1] == "time"
    return found


def ends(line):
    """Return where each word ends, and the word."""
    return [
        (at + 1, line[: at + 1].split()[-1])
        for at in range(len(line))
        if line[at] != " " and line[at + 1 : at + 2] in " "
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(len, table(width, best=True))) <= width


def test_the_losses_come_first_then_what_is_compared_then_validation_and_terms_of_the_loss_last():
    shown = {width: set(columns(table(width))) for width in range(30, 250)}
    appear = sorted({it for of in shown.values() for it in of}, key=lambda it: min(w for w in shown if it in shown[w]))
    at = {it: appear.index(it) for it in appear}
    assert at["valid", "loss"] < at["train", "loss"] < at["valid", "map"]
    assert at["valid", "map"] < at["valid", "a_long_name_of_a_metric"] < at["train", "a_long_name_of_a_metric"]
    terms = [at[key, name] for key in ("train", "valid") for name in LOSSES[1:]]
    assert min(terms) > at["train", "map"]
    assert shown[249] == {(key, name) for key in METRICS for name in METRICS[key]}


def test_columns_stand_in_the_order_of_loaders_and_metrics():
    assert columns(table(250)) == [(key, name) for key in METRICS for name in METRICS[key]]


def test_it_says_how_many_metrics_are_left_out():
    lines = table(80)
    assert lines[:2] == ["* best epoch so far by valid/map", "10 more metrics are in metrics.csv and TensorBoard"]
    assert len(columns(lines)) == 4
    assert not any("more metrics" in line for line in table(250))


def test_the_header_stands_above_the_first_epoch_alone_and_again_where_the_columns_change():
    one = EpochTable(10)
    metrics = {"train": {"loss": 1.0}, "valid": {"loss": 2.0}}
    assert [len(one.lines(epoch, metrics, 1.0)) for epoch in (1, 2)] == [3, 1]
    assert one.lines(3, {"train": {"loss": 1.0}}, 1.0) == ["epoch  3/10   1.0000             1.0 s"]
    assert len(one.lines(4, {**metrics, "valid_2": {"loss": 3.0}}, 1.0)) == 3
    assert len(one.lines(5, metrics, 1.0, width=100)) == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (0.123456, "0.1235"), (-0.5, "-0.5000"), (123.456, "123.456"), (-123.456, "-123.46"),
     (1234567.0, "1234567"), (12345678.0, "1.2e+07"), (0.00012, "1.2e-04"), (-0.00012, "-1.2e-04"), (math.nan, "nan"),
     (math.inf, "inf"), (-math.inf, "-inf")],
)  # fmt: skip
def test_a_number_has_as_many_of_four_decimals_as_fit(value, text):
    (*_, line) = table(80, {"valid": {"map": value}})
    assert line.split()[2] == text


def test_the_best_epoch_is_marked_and_coloured():
    plain, marked, coloured = (table(80, **it)[-1] for it in ({}, {"best": True}, {"best": True, "colour": True}))
    assert marked == f"{plain} *"
    assert coloured == f"\033[1;32m{marked}\033[0m"
    assert table(80, colour=True)[-1] == plain


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (99.94, "99.9 s"), (99.96, "1:40"), (3599.4, "59:59"), (3599.6, "1:00:00"), (359999, "99:59:59")],
)
def test_a_time_is_short(seconds, text):
    assert duration(seconds) == text


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "variables", "expected"),
    [(Terminal, {}, True), (Terminal, {"NO_COLOR": "1"}, False), (Terminal, {"NO_COLOR": ""}, True),
     (Terminal, {"TERM": "dumb"}, False), (io.StringIO, {}, False)],
)  # fmt: skip
def test_colour_is_for_terminals_and_users_who_have_not_turned_it_off(stream, variables, expected, monkeypatch):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert shows_colour(stream()) is expected


CODE = """
import sys
from assay.runner.loop.epoch_table import EpochTable, shows_colour, terminal_width
metrics = {key: {name: 0.5 for name in ("loss", "loss_cls", "loss_box", "loss_obj", "loss_rpn", "map")}
           for key in ("train", "valid")}
form = {"width": terminal_width(sys.stdout), "colour": shows_colour(sys.stdout)}
print(*EpochTable(10, "valid/map").lines(3, metrics, 1.0, best=True, **form), sep="\\n")
"""


@pytest.mark.parametrize("width", [80, 200])
def test_on_a_real_terminal_lines_have_its_width_and_colour(width):
    lines = on_terminal(width)
    plain = [line.replace("\033[2m", "").replace("\033[1;32m", "").replace("\033[0m", "") for line in lines]
    assert max(map(len, plain)) <= width
    assert max(map(len, plain)) > width * 0.6
    assert lines[-1].startswith("\033[1;32mepoch  3/10")


def on_terminal(width):
    main, child = pty.openpty()
    environment = {name: it for name, it in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES", "TERM")}
    os.set_blocking(main, True)
    import fcntl
    import struct
    import termios

    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    subprocess.run([sys.executable, "-c", CODE], stdout=child, check=True, env={**environment, "TERM": "xterm"})
    os.close(child)
    printed = b""
    try:
        while more := os.read(main, 4096):
            printed += more
    except OSError:  # the terminal is closed
        pass
    os.close(main)
    return printed.decode().splitlines()


def test_a_file_has_wide_plain_lines(monkeypatch):
    environment = {name: it for name, it in os.environ.items() if name not in ("COLUMNS", "LINES")}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    assert "\033" not in done.stdout
    assert 80 < max(map(len, done.stdout.splitlines())) <= 120
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal_width(io.StringIO()) in (120, os.get_terminal_size().columns if sys.__stdout__.isatty() else 120)
