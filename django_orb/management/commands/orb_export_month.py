from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from django_orb import services
from django_orb.management.files import add_file_options, write_as_told
from django_orb.management.options import read_day
from django_orb.management.printing import PrintingCommand


class Command(PrintingCommand):
    help = (
        "Export the end of a month: its sums, drafts that are not issued, failures, what "
        "changed afterwards, and credit notes. Asks the database only."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--month",
            metavar="MONTH",
            help="such as 2026-01, in REPORT_TIME_ZONE; by default the last one",
        )
        parser.add_argument(
            "--closed-on",
            type=read_day,
            metavar="DATE",
            help="include what changed after this day; by default the last of the month",
        )
        add_file_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        def export(**file: Any) -> int:
            return services.export_month(
                options["month"], closed_on=options["closed_on"], **file
            )

        write_as_told(self, export, options, "rows")
