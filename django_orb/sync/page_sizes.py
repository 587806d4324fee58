"""Choose how much to ask Orb for: less after a failure, more after success."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_orb.conf import get_settings
from django_orb.models import SyncWindow
from django_orb.webhooks import polling

if TYPE_CHECKING:
    from .steps import Step

SIZES = (100, 50, 20, 5, 1)
FETCHES_PER_STEP = 20
# Steps that have to succeed at a size before more is asked for again.
CAREFUL_STEPS = 10
# A page that takes longer than this share of the time-out is slow, and the next one
# might not come at all. But if Orb is slow at all sizes, it is never asked for fewer than
# this many.
SLOW_SHARE = 0.5
# Orb's lists can be slow: users of another connector report frequent time-outs
# (https://github.com/airbytehq/airbyte/issues/25490), and some ask for 20 at a time.
SMALLEST_IF_SLOW = 20
# After so many failures in a row, asking for one invoice has failed, too.
FAILURES_DOWN_TO_ONE = 5


def is_fetch(window: SyncWindow) -> bool:
    """Tell whether the next step fetches single invoices."""
    lists = (SyncWindow.Kind.LIST, SyncWindow.Kind.FEED)
    return bool(window.doubtful_ids) or window.kind not in lists


def size_of_step(window: SyncWindow, page_size: int) -> int:
    """Return how many invoices, or events, the window's next step asks for."""
    most = _most_per_step(window, page_size)
    return min(most, window.page_size or most)


def size_after_failure(window: SyncWindow, page_size: int) -> dict[str, Any]:
    """Return a smaller size, unless invoices are already asked for one by one."""
    size = size_of_step(window, page_size)
    if is_fetch(window) or size == 1:
        return {}
    return _smaller_than(size)


def _smaller_than(size: int) -> dict[str, Any]:
    smaller = next((less for less in SIZES if less < size), 1)
    return {"page_size": smaller, "careful_steps": CAREFUL_STEPS}


def size_after_success(
    window: SyncWindow, step: Step, page_size: int
) -> dict[str, Any]:
    """
    Ask for less if Orb was slow, and for more after enough good steps or past a failure.

    More is asked for only if Orb is not expected to be slow then.
    """
    if not step.requests or "page_size" in step.changes:
        return {}
    size = size_of_step(window, page_size)
    slow = SLOW_SHARE * get_settings().TIMEOUT_SECONDS
    if step.seconds > slow and size > SMALLEST_IF_SLOW:
        return _smaller_than(size)
    if not window.page_size:
        return {}
    has_passed = any(seen.refusal for seen in step.observations)
    was_away = window.page_size == 1 and window.deferrals >= FAILURES_DOWN_TO_ONE
    careful = 0 if has_passed or was_away else max(0, window.careful_steps - 1)
    if careful:
        return {"careful_steps": careful}
    most = _most_per_step(window, page_size)
    larger = min((more for more in SIZES if size < more < most), default=most)
    if step.seconds * larger / size > slow and larger > SMALLEST_IF_SLOW:
        return {"careful_steps": CAREFUL_STEPS}
    return {"careful_steps": 0, "page_size": 0 if larger == most else larger}


def _most_per_step(window: SyncWindow, page_size: int) -> int:
    if is_fetch(window):
        return FETCHES_PER_STEP
    return page_size if window.kind == SyncWindow.Kind.LIST else polling.PAGE_SIZE
