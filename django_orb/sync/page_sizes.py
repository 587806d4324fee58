"""Choose how much to ask Orb for: less after a failure, more after success."""

from __future__ import annotations

SIZES = (100, 50, 20, 5, 1)


def smaller(size: int) -> int:
    """Return the size to try after `size` failed; 1 is the smallest."""
    return next((less for less in SIZES if less < size), 1)


def larger(size: int, most: int) -> int:
    """Return the size to try after `size` succeeded, at most `most`."""
    return min((more for more in SIZES if size < more < most), default=most)
