"""Compare content by a digest, whatever the order of keys or the form of numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from django_orb import exact_json
from django_orb.client import SIGNED_LINKS
from django_orb.exceptions import OrbPayloadError

# How content is compared, part of every hash and digest. With a new number what is
# stored is hashed again when next seen; no invoice is written for it.
HASH_VERSION = 1


def content_hash(payload: Mapping[str, Any]) -> str:
    """
    Return a digest that is equal if the content is.

    The order of keys, the form of numbers (1.50 or 1.5) and the signatures of links do
    not count.

    Raises:
        OrbPayloadError: the payload cannot be written as JSON in UTF-8.
    """
    try:
        text = exact_json.canonical(_without_signatures(payload))
        data = text.encode()
    except ValueError as err:
        raise OrbPayloadError(f"The payload cannot be stored: {err}") from err
    digest = hashlib.blake2b(data, digest_size=16)
    return f"{HASH_VERSION}-{digest.hexdigest()}"


def _without_signatures(payload: Mapping[str, Any]) -> dict[str, Any]:
    content = dict(payload)
    attempts = content.get("payment_attempts")
    if attempts and isinstance(attempts, list):
        content["payment_attempts"] = [
            _mask(attempt) if isinstance(attempt, Mapping) else attempt
            for attempt in attempts
        ]
    return _mask(content)


def _mask(content: Mapping[str, Any]) -> dict[str, Any]:
    masked = dict(content)
    # A link with another signature is not a change. A link where there was none is.
    for name in SIGNED_LINKS:
        if masked.get(name):
            masked[name] = True
    return masked
