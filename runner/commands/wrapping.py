"""Wrap help texts to the width of a terminal, never within a word."""

import argparse
import textwrap
from typing import Any


def wrapped(text: str, width: int) -> str:
    """Return a text with its paragraphs wrapped; lists, tables and code keep their lines.

    Example:
        >>> print(wrapped("A short and a long line.", 12))
        A short and
        a long line.
    """
    return "\n\n".join(_wrapped_paragraph(paragraph, width) for paragraph in text.split("\n\n"))


def wrapped_usage(usage: str, width: int) -> str:
    """Return the line that says how to call a command, with each option as a whole."""
    first, *options = usage.strip().replace(" [", "\0[").replace(" --", "\0--").split("\0")
    lines = [first]
    for option in options:
        if len(lines[-1]) + 1 + len(option) > width:
            lines.append(" " * len("usage:"))
        lines[-1] += f" {option}"
    return "\n".join(lines) + "\n\n"


class WrappedHelp(argparse.HelpFormatter):
    """argparse's own, which would leave a usage of ours as long as it is."""

    def _format_usage(self, *args: Any) -> str:
        return wrapped_usage(super()._format_usage(*args), self._width)


def _wrapped_paragraph(paragraph: str, width: int) -> str:
    lines = paragraph.splitlines()
    if not any(line.startswith((" ", "=", "-", "*")) for line in lines):
        lines = [" ".join(lines)]
    return "\n".join(_wrapped_line(line, width) for line in lines)


def _wrapped_line(line: str, width: int) -> str:
    if len(line) <= width or line.startswith("="):
        return line
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
