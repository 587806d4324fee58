from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import QuerySet

from django_orb import services
from django_orb.management.files import add_file_options, write_as_told
from django_orb.management.options import read_day
from django_orb.management.printing import PrintingCommand
from django_orb.models import Invoice
from django_orb.reports import begin_of


class Command(PrintingCommand):
    help = (
        "Export the mirror's invoices, newest first, to a file that is written whole "
        "or not at all. Asks the database only."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--lines", action="store_true", help="their line items, a row for each"
        )
        parser.add_argument(
            "--since",
            type=read_day,
            metavar="DATE",
            help="only invoices dated on or after this day, in REPORT_TIME_ZONE",
        )
        parser.add_argument(
            "--until",
            type=read_day,
            metavar="DATE",
            help="only invoices dated on or before this day, in REPORT_TIME_ZONE",
        )
        parser.add_argument(
            "--status",
            action="append",
            choices=Invoice.Status.values,
            help="only invoices of this status; may be repeated",
        )
        parser.add_argument("--currency", help="only invoices in this currency")
        parser.add_argument(
            "--columns", metavar="NAMES", help="separated by commas, in their order"
        )
        add_file_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        columns = options["columns"]

        def export(**file: Any) -> int:
            return services.export_rows(
                chosen(options),
                lines=options["lines"],
                columns=[name.strip() for name in columns.split(",")]
                if columns
                else None,
                **file,
            )

        what = "line items" if options["lines"] else "invoices"
        write_as_told(self, export, options, what)


def chosen(options: dict[str, Any]) -> QuerySet[Invoice]:
    """
    Return the invoices that the options ask for.

    Raises:
        CommandError: the days are in the wrong order.
    """
    since, until = options["since"], options["until"]
    if since and until and since > until:
        raise CommandError("--since is after --until.")
    conditions: dict[str, Any] = {}
    if since:
        conditions["invoice_date__gte"] = begin_of(since)
    # The day after the last one that Python knows does not exist.
    if until and until < date.max:
        conditions["invoice_date__lt"] = begin_of(until + timedelta(days=1))
    if options["status"]:
        conditions["status__in"] = options["status"]
    if options["currency"]:
        conditions["currency"] = options["currency"]
    # From wherever the project's router reads, as an export decides nothing.
    return Invoice.objects.filter(**conditions)
