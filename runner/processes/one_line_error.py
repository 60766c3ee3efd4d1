"""Base of errors that users see as one line, also when a loader worker raises them."""


class OneLineError(RuntimeError):
    """An error whose message is one line.

    Args:
        message: the line, or the traceback that torch passes on from a loader worker, of which the last line is taken.
    """

    def __init__(self, message: str):
        # torch raises a worker's error again as ``type(error)(text of its traceback)``; the text becomes a note.
        *traceback, own = message.strip().splitlines()
        super().__init__(own.removeprefix(f"{type(self).__module__}.{type(self).__qualname__}: "))
        if traceback:
            self.add_note(message)
