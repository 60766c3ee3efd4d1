"""Text that can always be written as UTF-8, whatever bytes the names of files hold."""


def printable(text: str) -> str:
    r"""Return a text that can be written as UTF-8; bytes of a file's name that are not UTF-8 become ``\xe9``."""
    # Python stands for such bytes by lone surrogates, which "surrogateescape" turns back; other surrogates it refuses.
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")
