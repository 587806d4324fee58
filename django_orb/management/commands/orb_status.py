from __future__ import annotations

import dataclasses
import json
import textwrap
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import Error

from django_orb.exceptions import OrbConfigurationError
from django_orb.management.printing import PrintingCommand
from django_orb.status import Finding, StatusReport, Verdict, read_status

MARKS = {
    Verdict.OK: ("ok     ", "SUCCESS"),
    Verdict.WARNING: ("WARNING", "WARNING"),
    Verdict.FAILING: ("FAILING", "ERROR"),
}
WIDTH = 78


class Command(PrintingCommand):
    help = (
        "Say whether all is well, and what to do if it is not. The exit status is 1 "
        "if something is failing, otherwise 0, even if there are warnings."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--ask-orb",
            action="store_true",
            help="ask Orb whether it accepts the key, which may take a while",
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help='print one JSON object: {"verdict", "read_at", "findings": [{"name", '
            '"title", "verdict", "summary", "next_step", "details"}], "facts": {...}}; '
            'verdicts are "ok", "warning" and "failing"',
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = read_status(ask_orb=options["ask_orb"])
        except OrbConfigurationError as err:
            raise CommandError(str(err)) from err
        except Error as err:
            raise CommandError(
                f"The mirror cannot be read: {err} Check that the database is "
                "running and that migrate was run."
            ) from err
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(report), default=_plain, indent=2))
        else:
            for finding in report.findings:
                self._print(finding)
        failing = report.of_verdict(Verdict.FAILING)
        if failing:
            titles = ", ".join(finding.title for finding in failing)
            raise CommandError(f"Failing: {titles}.")

    def _print(self, finding: Finding) -> None:
        mark, style = MARKS[finding.verdict]
        self.stdout.write(f"{getattr(self.style, style)(mark)}  {finding.title}")
        for text in (finding.summary, *finding.details):
            self._indent(text)
        if finding.next_step:
            self._indent(f"-> {finding.next_step}")

    def _indent(self, text: str) -> None:
        # Findings quote Orb, and a terminal would obey escape sequences.
        shown = "".join(letter if letter.isprintable() else " " for letter in text)
        indent = " " * 9
        self.stdout.write(
            textwrap.fill(shown, WIDTH, initial_indent=indent, subsequent_indent=indent)
        )


def _as_json(report: StatusReport) -> dict[str, Any]:
    facts = dataclasses.asdict(report.facts)
    del facts["fingerprint"]  # of the key, which does not help a reader
    return {
        "verdict": report.verdict,
        "read_at": report.read_at,
        "findings": [dataclasses.asdict(finding) for finding in report.findings],
        "facts": facts,
    }


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
