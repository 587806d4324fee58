from __future__ import annotations

import json
import shutil
import sys
import time
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_orb import exact_json, services
from django_orb.exceptions import OrbConfigurationError, OrbError
from django_orb.management.options import read_moment
from django_orb.management.printing import PrintingCommand
from django_orb.sync import NOTHING, Difference, Verification

REFRESH_SECONDS = 0.2
WORDS = {
    "not_mirrored": "(invoice)",
    "gone": "(invoice)",
    "unstable": "(changes too often to be compared)",
    "unknown": "(neither Orb nor the mirror knows it)",
}


class Command(PrintingCommand):
    help = (
        "Compare the mirror with Orb, value for value. "
        "The exit status is 0 only if they are equal, or were made equal by --fix."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--fix", action="store_true", help="fetch what differs and store it again"
        )
        parser.add_argument(
            "--since",
            type=read_moment,
            metavar="DATE",
            help="only invoices dated at or after this (UTC unless it has an offset)",
        )
        parser.add_argument(
            "--invoice",
            action="append",
            metavar="ID",
            help="only this invoice; may be repeated",
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help='print one JSON object per line: {"type": "difference", "invoice_id", '
            '"invoice_number", "kind", "field", "orb", "here", "reason", '
            '"is_repaired"} for each, without "orb" or "here" if that side has '
            'no value, and {"type": "summary", "invoices", "pages", "differences", '
            '"repaired"} at the end; amounts of columns are strings',
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self._shown_at = self._started = time.monotonic()
        self._width = 0
        try:
            verification = services.verify_invoices(
                fix=options["fix"],
                since=options["since"],
                invoice_ids=options["invoice"],
                on_page=self._show_progress,
            )
            if options["json"]:
                self._print_json(verification)
            else:
                self._print_table(verification, is_fixing=options["fix"])
        except (OrbError, OrbConfigurationError) as err:
            raise CommandError(" ".join(str(err).split())) from err
        except KeyboardInterrupt:
            self.stderr.write("Stopped. The rest was not compared.")
            # What shells report for a program that was interrupted.
            sys.exit(130)
        finally:
            self._clear_progress()
        if not verification.is_right:
            raise CommandError(_conclusion(verification, is_fixing=options["fix"]))

    def _print_json(self, verification: Verification) -> None:
        for difference in verification:
            self._print(_dumps({"type": "difference", **_as_json(difference)}))
        summary = {
            "type": "summary",
            "invoices": verification.invoices,
            "pages": verification.pages,
            "differences": verification.differences,
            "repaired": verification.repaired,
        }
        self._print(_dumps(summary))

    def _print_table(self, verification: Verification, *, is_fixing: bool) -> None:
        table = _Table(is_fixing)
        for difference in verification:
            if verification.differences == 1:
                self._print(table.head())
            self._print(table.row(difference))
        self._print(_summary(verification, is_fixing=is_fixing))

    def _print(self, line: str) -> None:
        # Both may go to one terminal, and the line of progress has no end.
        self._clear_progress()
        self.stdout.write(line)

    def _show_progress(self, verification: Verification) -> None:
        now = time.monotonic()
        # On standard error, so that what is printed can be piped.
        if not self.stderr.isatty() or now - self._shown_at < REFRESH_SECONDS:
            return
        self._shown_at = now
        rate = verification.invoices / (now - self._started)
        line = f"{_summary(verification)} {rate:.0f}/s"
        # With `str` in place of the style of errors, which is red.
        self.stderr.write(f"\r{line.ljust(self._width)}", str, ending="")
        self.stderr.flush()
        self._width = len(line)

    def _clear_progress(self) -> None:
        if self._width:
            self.stderr.write(f"\r{' ' * self._width}\r", str, ending="")
            self.stderr.flush()
            self._width = 0


class _Table:
    """Rows of a fixed width, since each is printed before the next one is known."""

    def __init__(self, is_fixing: bool) -> None:
        self._is_fixing = is_fixing
        # 36 for the first column and for the three gaps of two.
        rest = max(shutil.get_terminal_size((120, 24)).columns, 80) - 36
        self._widths = [30, rest * 2 // 5, rest * 3 // 10, rest * 3 // 10]

    def head(self) -> str:
        titles = self._line(["Invoice", "Field", "Orb", "Here"], "")
        rule = self._line(["-" * width for width in self._widths], "")
        return f"{titles}\n{rule}"

    def row(self, difference: Difference) -> str:
        number, invoice_id = difference.invoice_number, difference.invoice_id
        cells = [
            _printable(f"{number} {invoice_id}".strip()),
            _printable(difference.field) or WORDS[difference.kind],
            _shown(difference.orb),
            _shown(difference.here),
        ]
        remarks = []
        if self._is_fixing:
            remarks.append("repaired" if difference.is_repaired else "NOT REPAIRED")
        if difference.reason:
            remarks.append(_printable(difference.reason))
        return self._line(cells, "; ".join(remarks))

    def _line(self, cells: list[str], remark: str) -> str:
        fitted = [
            _fit(cell, width).ljust(width)
            for cell, width in zip(cells, self._widths, strict=True)
        ]
        return "  ".join([*fitted, remark]).rstrip()


def _fit(text: str, width: int) -> str:
    """Leave out the middle, since paths and ids differ at their ends."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[-end:]}"


def _shown(value: Any) -> str:
    if value is NOTHING:
        return "(nothing)"
    if isinstance(value, str):
        return _printable(value) or '""'
    if isinstance(value, Decimal):
        return _digits(value)
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return _printable(_dumps(value))


def _printable(text: str) -> str:
    """Escape characters that a terminal would obey instead of printing them."""
    return "".join(
        letter if letter.isprintable() else repr(letter)[1:-1] for letter in text
    )


def _digits(value: Decimal) -> str:
    """Write a number without the zeros that fill up a column's decimal places."""
    # A number such as 1E+999999 would fill the screen with zeros.
    text = f"{value:f}" if -40 < value.adjusted() < 40 else str(value)
    return text.rstrip("0").rstrip(".") if "." in text and "E" not in text else text


def _as_json(difference: Difference) -> dict[str, Any]:
    values = vars(difference)
    is_column = difference.kind != "payload"
    return {
        name: _digits(value) if is_column and isinstance(value, Decimal) else value
        for name, value in values.items()
        if value is not NOTHING
    }


def _dumps(value: Any) -> str:
    try:
        return exact_json.dumps(value)
    except (TypeError, ValueError):  # a date, or a text that only Orb can hold
        return json.dumps(value, default=_plain)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _summary(verification: Verification, *, is_fixing: bool = False) -> str:
    text = (
        f"{verification.invoices:,} {_plural('invoice', verification.invoices)} "
        f"compared, {verification.differences:,} "
        f"{_plural('difference', verification.differences)}"
    )
    return f"{text}, {verification.repaired:,} repaired." if is_fixing else f"{text}."


def _conclusion(verification: Verification, *, is_fixing: bool) -> str:
    left = verification.differences - verification.repaired
    text = f"The mirror differs from Orb in {left:,} {_plural('value', left)}"
    return f"{text} that could not be repaired." if is_fixing else f"{text}; see --fix."


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"
