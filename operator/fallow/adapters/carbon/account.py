"""What one account at a provider has been told: to wait, or that it may not. Nobody is asked before the time is up.

Limits belong to the account and not to a zone, so that ten zones on one key wait together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256

from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds

# without a Retry-After: a minute, and twice as long each time until an hour
FIRST_WAIT, LONGEST_WAIT = Seconds(60), Seconds(3600)
# a provider that asks for more than a day is asked again after a day
MOST_WAIT = Seconds(86_400)
# a key may become valid, a plan may be extended; a new credential is tried at once
REFUSED_WAIT, FORBIDDEN_WAIT = Seconds(900), Seconds(3600)
_DIGITS = 10


@dataclass(slots=True)
class Account:
    """`provider` and `credential` name it in messages; its secret is known by a digest only.

    `refusals` are by question, "" for all of them.
    """

    provider: str
    credential: str
    wait: tuple[Instant, Missing] | None = None
    refusals: dict[str, tuple[Instant, Missing]] = field(default_factory=dict)
    _throttled: int = 0
    _digest: bytes = b""

    def stops(self, now: Instant, question: str, secret: str) -> Missing | None:
        """Why the question is not asked now."""
        digest = sha256(secret.encode()).digest()
        if digest != self._digest:
            self._digest, self.refusals = digest, {}
        known = (self.wait, self.refusals.get(""), self.refusals.get(question))
        return next((why for until, why in filter(None, known) if now < until), None)

    def told_to_wait(self, now: Instant, status: int, headers: Mapping[str, str]) -> Missing:
        """After a 429, or a 503 that says how long."""
        asked = retry_after(headers.get("Retry-After", ""), now)
        seconds = asked if asked is not None else Seconds(min(FIRST_WAIT * 2**self._throttled, LONGEST_WAIT))
        self._throttled = min(self._throttled + 1, _DIGITS)
        until = Instant(now + seconds)
        words = f"{self.provider} allows no more requests for {self._named} ({status}); asked again at {_clock(until)}"
        why = Missing(Reason.RATE_LIMITED, words)
        self.wait = (until, why)
        return why

    def refused(self, now: Instant) -> Missing:
        """After a 401: the credential is not valid."""
        words = f"{self.provider} does not accept {self._named} (401): put a valid one into its Secret"
        return self._refuse(now, "", REFUSED_WAIT, words)

    def forbidden(self, now: Instant, question: str) -> Missing:
        """After a 403: the credential is valid and this is not part of the plan."""
        words = f"{self.provider} does not let {self._named} ask for {question} (403): see what the plan includes"
        return self._refuse(now, question, FORBIDDEN_WAIT, words)

    def served(self) -> None:
        self._throttled = 0

    @property
    def _named(self) -> str:
        return f"the credential {self.credential}" if self.credential else "this address"

    def _refuse(self, now: Instant, question: str, seconds: Seconds, words: str) -> Missing:
        why = Missing(Reason.ACCESS_DENIED, words)
        self.refusals[question] = (Instant(now + seconds), why)
        return why


def retry_after(header: str, now: Instant) -> Seconds | None:
    """How long to wait by a Retry-After of seconds or of a date (RFC 9110, 10.2.3); None where it says neither."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return Seconds(min(float(text[:_DIGITS]), MOST_WAIT))
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    until = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return Seconds(min(max(until - now, 0.0), MOST_WAIT))


def _clock(until: Instant) -> str:
    return datetime.fromtimestamp(until, UTC).strftime("%H:%M UTC")
