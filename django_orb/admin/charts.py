"""Draw bars in SVG, which need no script and follow the page's theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from django.utils.formats import number_format

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 76, 8, 12, 28
GAP = 0.28  # of a group's width
STEPS = (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10))


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    series: int
    title: str


@dataclass(frozen=True)
class Mark:
    """A line of the grid, or the name of a group below it."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Chart:
    bars: list[Bar]
    lines: list[Mark]
    names: list[Mark]
    series: Sequence[str]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT


def bar_chart(
    groups: Sequence[str],
    series: dict[str, Sequence[Decimal]],
    titles: Sequence[Sequence[str]],
) -> Chart:
    """
    Draw a group of bars for each name, with one bar for each series.

    `titles` says in words what each bar shows, series by series.
    """
    values = list(series.values())
    top = max((value for one in values for value in one), default=Decimal(0))
    bottom = min((value for one in values for value in one), default=Decimal(0))
    # A month may be below nothing, if it has more credits than charges.
    ticks = round_ticks(min(bottom, Decimal(0)), max(top, Decimal(0)))
    scale = Scale(ticks[0], ticks[-1])
    slot = (WIDTH - LEFT - RIGHT) / max(len(groups), 1)
    thick = slot * (1 - GAP) / max(len(values), 1)
    bars = []
    for number, (one, said) in enumerate(zip(values, titles, strict=True)):
        for place, (value, title) in enumerate(zip(one, said, strict=True)):
            x = LEFT + slot * (place + GAP / 2) + thick * number
            y, end = sorted((scale.y(value), scale.y(Decimal(0))))
            bars.append(
                Bar(_round(x), y, _round(thick), _round(end - y), number, title)
            )
    return Chart(
        bars=bars,
        lines=[Mark(LEFT - 6, scale.y(tick), compact(tick)) for tick in ticks],
        names=[
            Mark(_round(LEFT + slot * (place + 0.5)), HEIGHT - 8, name)
            for place, name in enumerate(groups)
        ],
        series=list(series),
    )


@dataclass(frozen=True)
class Scale:
    low: Decimal
    high: Decimal

    def y(self, value: Decimal) -> float:
        share = (self.high - value) / ((self.high - self.low) or Decimal(1))
        return _round(TOP + float(share) * (HEIGHT - TOP - BOTTOM))


def round_ticks(low: Decimal, high: Decimal) -> list[Decimal]:
    """
    Return four to six round numbers that enclose the lowest and the highest value.
    """
    span = high - low
    if not span:
        return [Decimal(0), Decimal(1)]
    power = Decimal(1).scaleb((span / 4).adjusted())
    step = next(power * one for one in STEPS if power * one >= span / 4)
    first = int((low / step).to_integral_value(ROUND_FLOOR))
    last = int((high / step).to_integral_value(ROUND_CEILING))
    return [step * number for number in range(first, last + 1)]


def compact(value: Decimal) -> str:
    """Write a large round number as on an axis, such as 1.5M."""
    for size, letter in ((9, "B"), (6, "M"), (3, "k")):
        if abs(value) >= Decimal(1).scaleb(size):
            return f"{_plain(value.scaleb(-size))}{letter}"
    return _plain(value)


def _plain(value: Decimal) -> str:
    places = max(0, -int(value.normalize().as_tuple().exponent))
    return number_format(value, places)


def _round(value: float) -> float:
    return round(value, 1)
