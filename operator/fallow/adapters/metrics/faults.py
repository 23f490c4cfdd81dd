"""Words for faults that stay the same from cycle to cycle, so that a condition changes only when the fault does."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable

_ADDRESS_IN_MEMORY = re.compile(r"<[^<>]* object at 0x[0-9a-f]+>: ?")
_NAMED_AT_MOST = 5
_LONGEST = 200


def listed(names: Iterable[str]) -> str:
    every = sorted(names)
    more = len(every) - _NAMED_AT_MOST
    return ", ".join(every[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def without_credentials(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def cause(error: Exception) -> str:
    """What went wrong: the innermost reason, without the query's URL and without addresses in memory."""
    inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    reason = getattr(inner, "reason", None) or inner
    text = _ADDRESS_IN_MEMORY.sub("", str(reason)).strip() or type(error).__name__
    return text[:_LONGEST]
