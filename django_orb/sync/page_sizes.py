"""How much to ask Orb for at a time: less if that fails, more if it goes well."""

from __future__ import annotations

SIZES = (100, 50, 20, 5, 1)


def smaller(size: int) -> int:
    """Return the size to try after `size` failed; 1 is the smallest."""
    return next((less for less in SIZES if less < size), 1)


def larger(size: int, most: int) -> int:
    """Return the size to try after `size` went well, at most `most`."""
    return min((more for more in SIZES if size < more < most), default=most)
