from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field, fields
from typing import Any

from django.conf import settings

from .exceptions import OrbConfigurationError

DEFAULT_BASE_URL = "https://api.withorb.com/v1"


@dataclass(frozen=True, kw_only=True)
class OrbSettings:
    """What `settings.DJANGO_ORB` says, with the defaults filled in."""

    API_KEY: str = field(default="", repr=False)
    """Orb API key; falls back to the environment's ORB_API_KEY. The key decides
    whether it is Orb's test or live mode: the host is the same."""

    BASE_URL: str = ""
    """Where Orb is; falls back to ORB_BASE_URL, then to Orb's own address."""

    TIMEOUT_SECONDS: float = 30.0
    """How long one request may wait for bytes before it counts as failed."""

    PAGE_SIZE: int = 100
    """Invoices per list request, 1 to 100 (Orb's maximum)."""

    LOOKBACK_DAYS: int = 35
    """How far back, by invoice date, an incremental sync reads every status."""

    READ_ONLY: bool = False
    """Refuse to void and to charge: for copies of production."""

    CELERY_QUEUE: str | None = None
    """The queue of our tasks; None leaves it to the project's own routing."""


def get_settings() -> OrbSettings:
    """
    Read `settings.DJANGO_ORB` now; never keep the result across calls.

    Raises:
        OrbConfigurationError: a key that does not exist, with the nearest that does.
    """
    given: dict[str, Any] = getattr(settings, "DJANGO_ORB", {})
    if not isinstance(given, dict):
        raise OrbConfigurationError("DJANGO_ORB must be a dict.")
    known = [f.name for f in fields(OrbSettings)]
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {near[0]}?" if near else f" Known: {', '.join(known)}."
            raise OrbConfigurationError(f"DJANGO_ORB has an unknown key {key!r}.{hint}")
    values = dict(given)
    if not values.get("API_KEY"):
        values["API_KEY"] = os.environ.get("ORB_API_KEY", "")
    if not values.get("BASE_URL"):
        values["BASE_URL"] = os.environ.get("ORB_BASE_URL", "") or DEFAULT_BASE_URL
    return OrbSettings(**values)
