"""Names of files in texts."""


def printable(text: str) -> str:
    r"""Return a text that can be written as UTF-8: of a file's name that is not, such bytes are shown as ``\xe9``."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")
