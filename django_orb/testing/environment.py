"""Let a project under test use the sandbox instead of Orb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from django.conf import settings
from django.test import override_settings

from . import OrbSandbox

INVOICES = 40
WEBHOOK_SECRET = "sandbox-webhook-secret"  # noqa: S105
#: More than any test sends, so that no request waits for its turn.
PER_SECOND = 10_000.0


@contextmanager
def use_sandbox(**options: Any) -> Iterator[OrbSandbox]:
    """
    Run a sandbox, and let `settings.DJANGO_ORB` point at it meanwhile.

    `options` are those of `OrbSandbox`; by default it has 40 invoices, and its clock
    stands still, so that no draft is issued in the middle of a test. Webhooks are
    processed within the request that brings them, without a broker.
    """
    defaults = {"invoices": INVOICES, "now": datetime.now(timezone.utc)}
    with OrbSandbox(**{**defaults, **options}) as orb:
        changed = {
            "API_KEY": orb.api_key,
            "BASE_URL": orb.base_url,
            "READS_PER_SECOND": PER_SECOND,
            "WRITES_PER_SECOND": PER_SECOND,
            "READ_ONLY": False,
            "WEBHOOK_SECRETS": [WEBHOOK_SECRET],
            "WEBHOOK_IN_PROCESS": True,
        }
        before = getattr(settings, "DJANGO_ORB", {})
        with override_settings(DJANGO_ORB={**before, **changed}):
            yield orb
