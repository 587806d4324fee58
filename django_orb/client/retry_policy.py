"""Decide how often, and after which pause, a failed request is sent again."""

from __future__ import annotations

import random

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from django_orb.exceptions import OrbConnectionError

from .answer import Answer

# As in Orb's own SDK, which also obeys `Retry-After` up to a minute only.
MAX_BACKOFF_SECONDS = 8.0
MAX_RETRY_AFTER_SECONDS = 60.0


class RetryPolicy(Retry):
    """
    Wait as Orb's own SDK does: 0.5 s, doubled each time, less up to a quarter.

    Source: https://github.com/orbcorp/orb-python (`src/orb/_base_client.py`)
    """

    def get_backoff_time(self) -> float:
        seconds = min(MAX_BACKOFF_SECONDS, 0.5 * 2.0 ** len(self.history))
        return seconds * random.uniform(0.75, 1)  # noqa: S311  not a secret

    def seconds_to_wait(self, method: str, answer: Answer | Exception) -> float | None:
        """Return the pause before another try, or None if there should be no other."""
        if not self.total:
            return None
        if isinstance(answer, Exception):
            is_transient = isinstance(answer, OrbConnectionError)
            return self.get_backoff_time() if is_transient else None
        if not self.is_retry(method, answer.response.status_code):
            return None
        # Orb documents no header that tells how long to wait after a 429.
        # Source: https://docs.withorb.com/api-reference/rate-limits
        advised = retry_after_seconds(answer.response) or self.get_backoff_time()
        # The caller decides about a longer wait, since it may have other work to do.
        return advised if advised <= MAX_RETRY_AFTER_SECONDS else None

    @classmethod
    def of(cls, retries: int) -> RetryPolicy:
        """Return a policy that repeats a request of any method up to `retries` times."""
        # The statuses that Orb's own SDK retries. A 409 may mean that the request
        # before, with the same key, is still being processed. `transport` decides which
        # methods are repeated.
        # Source: https://docs.withorb.com/api-reference/idempotency
        return cls(
            total=retries,
            allowed_methods=None,
            status_forcelist=[408, 409, 429, *range(500, 600)],
        )


def retry_after_seconds(response: requests.Response) -> float | None:
    """Return how long Orb asks to wait, read from a number or an HTTP date."""
    value = response.headers.get("Retry-After")
    if value is None:
        return None
    try:
        return float(Retry().parse_retry_after(value))
    except (InvalidHeader, ValueError, OverflowError):
        return None


def may_have_been_done(answer: Answer | Exception) -> bool:
    """Tell whether Orb may have executed a failed request; after 429 it has not."""
    return isinstance(answer, Exception) or answer.response.status_code != 429
