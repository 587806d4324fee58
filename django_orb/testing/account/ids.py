from __future__ import annotations

import hashlib
from binascii import b2a_base64

# Orb's ids are opaque mixed-case letters and digits, so the signs of base64 become
# letters.
_LETTERS = bytes.maketrans(b"+/", b"kW")


def digest(*parts: object) -> bytes:
    """64 pseudo-random bytes, the same for the same parts everywhere."""
    return hashlib.blake2b("/".join(map(str, parts)).encode()).digest()


def letters(raw: bytes) -> bytes:
    """Four letters for every three bytes; "=" where their number is no multiple."""
    return b2a_base64(raw, newline=False).translate(_LETTERS)


def make_id(*parts: object) -> str:
    """An id of 16 characters, the shape of Orb's own."""
    return letters(digest(*parts)[:12]).decode()
