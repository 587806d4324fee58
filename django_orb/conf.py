"""Read the settings of this package, with their defaults."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from .exceptions import OrbConfigurationError

DEFAULT_BASE_URL = "https://api.withorb.com/v1"

_API_KEY = re.compile(r"[!-~]+")  # what fits in an HTTP header, without spaces


@dataclass(frozen=True, kw_only=True)
class OrbSettings:
    """The values of `settings.DJANGO_ORB`, with the defaults filled in."""

    API_KEY: str = field(default="", repr=False)
    """Orb API key; falls back to the environment's ORB_API_KEY. The key decides
    whether it is Orb's test or live mode: the host is the same."""

    BASE_URL: str = ""
    """Orb's address; falls back to ORB_BASE_URL, then to Orb's own."""

    TIMEOUT_SECONDS: float = 30.0
    """Seconds that one request waits for bytes; after twice that it ends."""

    WEBHOOK_SECRETS: Sequence[str] = field(default=(), repr=False)
    """The signing secrets of the webhook endpoint in Orb, several while one is being
    replaced; falls back to the environment's ORB_WEBHOOK_SECRET."""

    WEBHOOK_IN_PROCESS: bool = False
    """Process webhooks within the request that brings them, without Celery."""

    WEBHOOK_RETENTION_DAYS: int | None = 30
    """Days that the `prune` task keeps webhook events that were processed; None, here
    and in the next four, is for ever."""

    FAILED_WEBHOOK_RETENTION_DAYS: int | None = 90
    """Days that the `prune` task keeps webhook events that fail, which are tried again
    for as long."""

    RUN_RETENTION_DAYS: int | None = 90
    """Days that the `prune` task keeps sync runs that ended."""

    CHANGE_RETENTION_DAYS: int | None = 400
    """Days that the `prune` task keeps an invoice's history, counted from when each
    change was announced."""

    OPERATION_RETENTION_DAYS: int | None = None
    """Days that the `prune` task keeps operations that ended. They are the audit trail,
    and an idempotency key whose operation was deleted could be used again."""

    SWEEP_MINUTES: int = 60
    """Minutes until incremental syncs read all that is open or recent again, if Orb's
    feed of events tells what changed meanwhile."""

    REPORT_TIME_ZONE: str = "UTC"
    """The time zone of the months in the admin's overview, such as "Europe/Berlin".
    Orb's dates are the customer's midnight in UTC."""

    # The maximum: https://docs.withorb.com/api-reference/pagination
    PAGE_SIZE: int = 100
    """Invoices per list request, 1 to 100 (Orb's maximum)."""

    # Measured with 0.2 s for each answer: four read three times as fast as one, and
    # eight hardly faster than four, because one thread writes for all.
    CONCURRENCY: int = 4
    """Parts of Orb's list that a sync in one process reads side by side, 1 to 8. Celery
    workers read one each."""

    LOOKBACK_DAYS: int = 35
    """Days, by invoice date, of which an incremental sync reads every status."""

    # The limits: https://docs.withorb.com/api-reference/rate-limits
    READS_PER_SECOND: float = 20.0
    """Requests that read from Orb, by all processes together. Orb's limits are 100 in
    live mode, 50 in test mode, 10 on trial."""

    WRITES_PER_SECOND: float = 2.0
    """Requests that write to Orb, by all processes together. Orb's limits are 50 in
    live mode, 5 in test mode, 1 on trial."""

    READ_ONLY: bool = False
    """Refuse all operations: for copies of production."""

    NOTES_REQUIRED: bool = False
    """Refuse voids, changes of lines, payments marked and edits without a note that says
    why."""

    OVERDUE_DAYS: Sequence[int] = (1, 7, 30)
    """How many days after its due date an open invoice is told to receivers of the
    signal `invoice_overdue`."""

    CELERY_QUEUE: str | None = None
    """The queue of our tasks; None leaves it to the project's own routing."""

    TASK_BACKEND: str | None = None
    """The alias, in Django's setting `TASKS` (6.0 or later), of the backend that runs this
    package's tasks instead of Celery."""

    METRICS: Sequence[str] = ()
    """The tools that measure requests, runs, webhooks and operations: any of
    "prometheus" and "opentelemetry"."""

    CUSTOMER_LABELS: str | None = None
    """Dotted path to a function that the admin calls once a page with a list of
    `(customer_id, external_customer_id)`; it returns a dict from either id to a name,
    or to a name and the URL of your page about the customer."""

    CUSTOMER_SEARCH: str | None = None
    """Dotted path to a function that the admin's search calls with what was typed; it
    returns ids of customers, Orb's or yours, 500 at most."""


def get_settings() -> OrbSettings:
    """
    Read `settings.DJANGO_ORB` now; never keep the result across calls.

    Raises:
        OrbConfigurationError: a key is unknown; the message names the nearest known one.
    """
    given: dict[str, Any] = getattr(settings, "DJANGO_ORB", {})
    if not isinstance(given, dict):
        raise OrbConfigurationError("DJANGO_ORB must be a dict.")
    known = [f.name for f in fields(OrbSettings)]
    # A setting that is misspelt, or was removed, must not be ignored silently.
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = (
                f" Did you mean {near[0]}?" if near else f" Known: {', '.join(known)}."
            )
            raise OrbConfigurationError(f"DJANGO_ORB has an unknown key {key!r}.{hint}")
    values = dict(given)
    # The environment's names are those of Orb's own SDK.
    if not values.get("API_KEY"):
        values["API_KEY"] = os.environ.get("ORB_API_KEY", "")
    if not values.get("BASE_URL"):
        values["BASE_URL"] = os.environ.get("ORB_BASE_URL", "") or DEFAULT_BASE_URL
    if not values.get("WEBHOOK_SECRETS"):
        secret = os.environ.get("ORB_WEBHOOK_SECRET", "")
        values["WEBHOOK_SECRETS"] = [secret] if secret else []
    return OrbSettings(**values)


def api_key_problem(key: object) -> str:
    """Return what is wrong with an API key without quoting it, or ""."""
    if not key:
        return "is empty"
    if not isinstance(key, str):
        return "is not a string"
    if not _API_KEY.fullmatch(key):
        return "holds a space, a line break or a non-ASCII letter, as no key does"
    return ""


def base_url_problem(url: object) -> str:
    """Return what is wrong with a base URL, or ""."""
    if not isinstance(url, str):
        return "is not a string"
    try:
        parts = urlsplit(url)
        complete = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        complete = False
    if not complete or re.search(r"\s", url):
        shown = "" if "@" in url else f": {url!r}"  # it might hold a password
        return f"is not an http or https address{shown}"
    # `urlsplit` does not tell an empty query or fragment from none.
    if parts.username is not None or "?" in url or "#" in url:
        return "has a user name, a query or a fragment"
    return ""


def is_loopback(url: str) -> bool:
    """Tell whether an address is on this machine, going by its name alone."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
