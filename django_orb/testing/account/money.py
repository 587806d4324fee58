from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal

ZERO = Decimal(0)
_CENT = Decimal("0.01")
_WHOLE = Decimal(1)


def smallest_unit(currency: str) -> Decimal:
    # Own choice: how Orb shows a currency without decimals is undocumented.
    return _WHOLE if currency == "JPY" else _CENT


def rounded(amount: Decimal, currency: str) -> Decimal:
    # Adding zero turns -0.00, which nobody wants to read, into 0.00.
    return amount.quantize(smallest_unit(currency), ROUND_HALF_UP) + ZERO


def money(amount: Decimal, currency: str) -> str:
    return f"{rounded(amount, currency):f}"


def number(quantity: Decimal) -> int | float:
    """A JSON number: Orb shows quantities as numbers and money as strings."""
    return int(quantity) if quantity == int(quantity) else float(quantity)


def rate(amount: Decimal) -> str:
    """A price of one unit: as many places as it needs, and two at least."""
    plain = amount.normalize()
    exponent = plain.as_tuple().exponent
    places = max(2, -exponent) if isinstance(exponent, int) else 2
    return f"{plain:.{places}f}"


def decimal(text: str) -> Decimal:
    """
    A plain, finite number.

    Raises:
        ValueError: it is not.
    """
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text, re.ASCII):
        raise ValueError(text)
    return Decimal(text)
