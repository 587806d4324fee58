"""How a form is filled in: not at all, with nothing, with rubbish, and rightly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from .documents import Control, Form

RUBBISH = (
    "x" * 5000,
    "1e2000000000",
    "NaN",
    "\N{PILE OF POO}\N{RIGHT-TO-LEFT OVERRIDE}\N{COMBINING ENCLOSING KEYCAP}",
    "a\0b",
    "-99999999999999999999999999999999999999999.5",
    "0001-01-01",
    "9999-12-31",
    "no-such-id",
    "\N{ARABIC-INDIC DIGIT THREE}\N{SUPERSCRIPT TWO}",
    "%(x)s {{ x }} {0} <b>' OR \"",
    "-1",
)
# What no form says: a value that a person would give, by the name of the field.
RIGHT = {
    "amount": "5",
    "external_customer_id": "crm-of-the-crawler",
    "metadata": "key = value",
    "name": "Support",
    "notes": "Paid by bank transfer",
    "q": "crm",
}
#: More rows of a list than an action does while somebody waits.
MANY = 8
FEW = 2

Values = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Submission:
    how: str
    values: Values

    @property
    def must_explain(self) -> bool:
        """Whether a page that shows the form again has to say what was wrong."""
        return self.how in ("nothing", "rubbish")

    @property
    def is_right(self) -> bool:
        return self.how == "right"


def submissions(form: Form, *, rounds: int, start: int) -> Iterator[Submission]:
    """
    All ways to send a form.

    `rounds` times everything is rubbish, from a different one each time; and as often
    each field alone is, and one of them with each option of a select.
    """
    yield Submission("bare", [])
    if not form.is_sendable:
        return
    button = form.buttons[0]
    hidden = [(one.name, one.value) for one in form.controls if one.type == "hidden"]
    if form.visible:
        empty = [(one.name, "") for one in form.visible if not _is_box(one)]
        yield Submission("nothing", [*hidden, *empty, *_clicked(button)])
    for number in range(start, start + rounds if form.visible else start):
        values = _rubbish([one.name for one in form.visible], number)
        yield Submission("rubbish", [*hidden, *values, *_clicked(button)])
    names = [name for name, _ in (*hidden, *_right(form.visible, 0, FEW))]
    names = list(dict.fromkeys(names))
    for number in range(rounds * max(len(names), _ways(form)) if names else 0):
        spoiled = names[(number + number // len(names)) % len(names)]
        values = [*hidden, *_right(form.visible, number, FEW)]
        others = [(name, value) for name, value in values if name != spoiled]
        rubbish = _rubbish([spoiled], start + number)
        values = [*others, *rubbish, *_clicked(button)]
        yield Submission(f"rubbish for {spoiled}", values)
    yield from _right_ways(form, hidden)


def _ways(form: Form) -> int:
    """How many submissions it takes to choose each option of each select once."""
    selects = [one for one in form.visible if one.type == "select"]
    return max([1, *(len(one.options) for one in selects)])


def _right_ways(form: Form, hidden: Values) -> Iterator[Submission]:
    boxes = sum(_is_box(one) for one in form.visible)
    for button in form.buttons:
        for number in range(_ways(form)):
            for checked in (FEW, MANY) if boxes > MANY and number else (FEW,):
                values = _right(form.visible, number, checked)
                yield Submission("right", [*hidden, *values, *_clicked(button)])


def _is_box(control: Control) -> bool:
    return control.type in ("checkbox", "radio")


def _clicked(button: Control) -> Values:
    return [(button.name, button.value)] if button.name else []


def _rubbish(names: list[str], number: int) -> Values:
    named = [name for name in names if name][: MANY * 2]
    return list(zip(named, islice(cycle(RUBBISH), number, None), strict=False))


def _right(controls: list[Control], number: int, checked: int) -> Values:
    """What a person would choose; `number` turns every select to another option."""
    values: list[tuple[str, str]] = []
    for one in controls:
        if one.type == "select" and one.options:
            values.append((one.name, one.options[number % len(one.options)]))
        elif not _is_box(one):
            values.append((one.name, RIGHT.get(one.name) or one.value))
        elif one.name and (checked > 0 or one.is_checked):
            checked -= 1
            values.append((one.name, one.value))
    return [(name, value) for name, value in values if name]
