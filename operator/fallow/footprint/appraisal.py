"""The step after booking: what the cycle taught about each variant, and what was avoided, into the same ledger.

Both are read off the difference between the ledger before and after, so an interval counts here as often as it is
booked: once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fallow.domain.learned import Learned, Placement
from fallow.domain.ledger import Account, Book, Ledger
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import ServiceKey
from fallow.footprint.measured import Window, observed
from fallow.footprint.periods import added, calendar, cut, slot_of
from fallow.footprint.savings import Situation, compared
from fallow.footprint.starts import with_starts
from fallow.footprint.steps import learned_from

# what was learned of a service that is gone, in case it comes back
KEEP_GONE = Seconds(7 * 86_400)


def appraised(before: Ledger, after: Ledger, snapshot: Snapshot, situations: Mapping[ServiceKey, Situation]) -> Ledger:
    """`after` with what the time since `before` taught and avoided. Services without a situation are not compared."""
    windows, openings = observed(after.openings, snapshot)
    learned = with_starts(_taught(after, snapshot, windows), before, after, snapshot)
    known = replace(after, learned=learned, openings=openings)
    followers, saved = compared(before, known, situations, snapshot.zones)
    books = dict(known.books)
    for line, account in saved.items():
        books[line] = _with(books[line], account, before.at, known.at)
    services = snapshot.cluster.services
    waiting = {key: one for key, one in after.counterfactuals.items() if key in services}
    habits = {key: one for key, one in {**after.habits, **snapshot.habits}.items() if key in services}
    return replace(known, books=books, counterfactuals={**waiting, **followers}, habits=habits)


def _taught(ledger: Ledger, snapshot: Snapshot, windows: Sequence[Window]) -> Mapping[Placement, Learned]:
    """The very same mapping where nothing was learned and nothing is left out: nobody concludes from it anew."""
    gone = [placement for placement, one in ledger.learned.items() if _is_gone(placement, one, snapshot)]
    if not windows and not gone:
        return ledger.learned
    learned = dict(ledger.learned)
    for placement in gone:
        del learned[placement]
    for window in windows:
        learned[window.placement] = learned_from(learned.get(window.placement), window)
    return learned


def _is_gone(placement: Placement, one: Learned, snapshot: Snapshot) -> bool:
    return placement.service not in snapshot.cluster.services and snapshot.at - one.at > KEEP_GONE


def _with(book: Book, account: Account, start: Instant, end: Instant) -> Book:
    present = calendar(end, book.time_zone)
    for begin, share in cut(start, end, present.starts):
        book = added(book, slot_of(begin, present), account if share == 1.0 else _part(account, share))
    return book


def _part(account: Account, share: float) -> Account:
    return Account(
        compared=account.compared * share,
        avoided_replicas=account.avoided_replicas * share,
        avoided_rest=account.avoided_rest * share,
        avoided_precision=account.avoided_precision * share,
        avoided_other=account.avoided_other * share,
        avoided_carbon=account.avoided_carbon * share,
        avoided_unpriced=account.avoided_unpriced * share,
    )
