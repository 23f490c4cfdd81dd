"""The three ways in which a write can fail; foreign exceptions are chained to one of them."""


class WriteError(Exception):
    """A write that did not happen; the message says what and why."""


class Refused(WriteError):
    """The API server said no (403, 422): repeating it will not help until something changes."""


class Conflict(WriteError):
    """Somebody else wrote first (409): read again, decide again."""


class Unreachable(WriteError):
    """No answer in time, or a server error: try again next cycle."""
