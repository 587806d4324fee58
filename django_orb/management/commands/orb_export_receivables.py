from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from django_orb import services
from django_orb.management.files import add_file_options, write_as_told
from django_orb.management.options import read_day
from django_orb.management.printing import PrintingCommand


class Command(PrintingCommand):
    help = (
        "Export what was owed at the end of a day, by customer, currency and age, to a "
        "file that is written whole or not at all. Asks the database only."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--day",
            type=read_day,
            metavar="DATE",
            help="the day, which ends in REPORT_TIME_ZONE; by default today, as of now",
        )
        parser.add_argument(
            "--invoices", action="store_true", help="a row for each invoice instead"
        )
        parser.add_argument("--currency", help="only what is owed in this currency")
        parser.add_argument(
            "--customer", metavar="ID", help="only what this customer of Orb's owes"
        )
        add_file_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        def export(**file: Any) -> int:
            return services.export_receivables(
                options["day"],
                invoices=options["invoices"],
                currency=options["currency"],
                customer_id=options["customer"],
                **file,
            )

        what = "invoices" if options["invoices"] else "rows of customers"
        write_as_told(self, export, options, what)
