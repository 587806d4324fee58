"""
Verify that Orb signed the bytes of a webhook.

These are pure functions, without a database: call `verify_signature` first, on the
bytes as they came, and only then `parse_event`.

Source: https://docs.withorb.com/guides/integrations-and-exports/webhooks and
https://github.com/orbcorp/orb-python (`src/orb/resources/webhooks`)
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone

from django_orb.exceptions import OrbWebhookVerificationError

from .payload import read_time

# As much as Orb's own SDKs allow; the documentation names no limit.
TOLERANCE = timedelta(minutes=5)
SIGNATURE_HEADER = "X-Orb-Signature"
TIMESTAMP_HEADER = "X-Orb-Timestamp"


def sign(body: bytes, timestamp: str, secret: str) -> str:
    """Return the signature of a body, as it stands in `X-Orb-Signature`."""
    return f"v1={_digest(body, timestamp, secret)}"


def verify_signature(
    body: bytes,
    headers: Mapping[str, str],
    secrets: Sequence[str],
    *,
    now: datetime | None = None,
) -> None:
    """
    Make sure that Orb sent these bytes, within the last five minutes.

    Names of headers may be in any case. Each of several signatures is compared with
    each of the secrets, in constant time. `now` is aware, by default the current time.

    Raises:
        OrbWebhookVerificationError: Orb did not send them, or a secret is not set.
    """
    # A single string would be read as a list of secrets of one letter.
    usable = [] if isinstance(secrets, str) else list(secrets)
    if not usable or not all(usable):
        raise OrbWebhookVerificationError(
            "There is no secret to verify the webhook with: set "
            'DJANGO_ORB["WEBHOOK_SECRETS"] to a list of '
            "the endpoint's secrets."
        )
    timestamp = _header(headers, TIMESTAMP_HEADER)
    signatures = _header(headers, SIGNATURE_HEADER).split()
    _verify_timestamp(timestamp, now or datetime.now(timezone.utc))
    expected = [sign(body, timestamp, secret).encode() for secret in usable]
    # All are compared, even after one has matched, so that the time which it takes
    # tells nothing about secrets.
    is_signed = False
    for given in signatures:
        # As bytes, since `compare_digest` raises a TypeError for texts that are not
        # ASCII, which a stranger may send.
        raw = given.encode("utf-8", "backslashreplace")
        for signature in expected:
            is_signed |= hmac.compare_digest(signature, raw)
    if not is_signed:
        raise OrbWebhookVerificationError("No signature matches the body.")


def _digest(body: bytes, timestamp: str, secret: str) -> str:
    message = b"v1:" + timestamp.encode() + b":" + body
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def _header(headers: Mapping[str, str], name: str) -> str:
    values = [value for key, value in headers.items() if key.lower() == name.lower()]
    if len(values) != 1 or not values[0]:
        raise OrbWebhookVerificationError(f"The header {name} is missing or repeated.")
    return values[0]


def _verify_timestamp(timestamp: str, now: datetime) -> None:
    """Check that the time is close to now; a naive time is UTC, as Orb sends it."""
    moment = read_time(timestamp)
    if moment is None:
        raise OrbWebhookVerificationError(f"{TIMESTAMP_HEADER} is not a time.")
    if abs(moment - now) > TOLERANCE:
        raise OrbWebhookVerificationError(
            f"{TIMESTAMP_HEADER} is more than five minutes off."
        )
