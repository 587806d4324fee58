from __future__ import annotations

import base64
import hashlib

# Orb's ids are opaque mixed-case letters and digits, so "+" and "/" of base64
# become letters.
_ALTERNATIVES = b"kW"


def digest(*parts: object) -> bytes:
    """64 pseudo-random bytes, the same for the same parts everywhere."""
    return hashlib.blake2b("/".join(map(str, parts)).encode()).digest()


def letters(raw: bytes) -> str:
    return base64.b64encode(raw, _ALTERNATIVES).decode().rstrip("=")


def make_id(*parts: object) -> str:
    """An id of 16 characters, the shape of Orb's own."""
    return letters(digest(*parts)[:12])
