from __future__ import annotations

import hashlib
from binascii import b2a_base64

# Orb's ids are opaque letters and digits of both cases, so the two signs of base64
# are replaced by letters.
_LETTERS = bytes.maketrans(b"+/", b"kW")


def digest(*parts: object) -> bytes:
    """Return 64 pseudo-random bytes, which depend only on the parts."""
    return hashlib.blake2b("/".join(map(str, parts)).encode()).digest()


def letters(raw: bytes) -> bytes:
    """Write three bytes as four letters or digits; "=" fills up an incomplete four."""
    return b2a_base64(raw, newline=False).translate(_LETTERS)


def make_id(*parts: object) -> str:
    """Return an id of 16 characters, in the form of Orb's own."""
    return letters(digest(*parts)[:12]).decode()
