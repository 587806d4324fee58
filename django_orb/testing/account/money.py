from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal

ZERO = Decimal(0)
_CENT = Decimal("0.01")
_WHOLE = Decimal(1)


def smallest_unit(currency: str) -> Decimal:
    # Own choice: the documents do not show a currency without decimals.
    return _WHOLE if currency == "JPY" else _CENT


def rounded(amount: Decimal, currency: str) -> Decimal:
    # Adding zero turns -0.00 into 0.00.
    return amount.quantize(smallest_unit(currency), ROUND_HALF_UP) + ZERO


def money(amount: Decimal, currency: str) -> str:
    return f"{rounded(amount, currency):f}"


def number(quantity: Decimal) -> int | float:
    """Return a JSON number: Orb shows quantities as numbers and money as strings."""
    return int(quantity) if quantity == int(quantity) else float(quantity)


def rate(amount: Decimal) -> str:
    """Write a unit price with all its decimal places, at least two."""
    plain = amount.normalize()
    exponent = plain.as_tuple().exponent
    places = max(2, -exponent) if isinstance(exponent, int) else 2
    return f"{plain:.{places}f}"


def decimal(text: str) -> Decimal:
    """
    Read a finite number without an exponent.

    Raises:
        ValueError: the text is not such a number.
    """
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text, re.ASCII):
        raise ValueError(text)
    return Decimal(text)
