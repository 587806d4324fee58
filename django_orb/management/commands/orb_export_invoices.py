from __future__ import annotations

import argparse
import shutil
import sys
from datetime import date, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error
from django.db.models import QuerySet
from django.utils.dateparse import parse_date

from django_orb import services
from django_orb.conf import get_settings
from django_orb.exceptions import OrbConfigurationError, OrbError
from django_orb.exports import FORMATS
from django_orb.models import Invoice


class Command(BaseCommand):
    help = (
        "Export the mirror's invoices, newest first, to a file that is written whole "
        "or not at all. Asks the database only."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--lines", action="store_true", help="their line items, a row for each"
        )
        parser.add_argument(
            "--format",
            choices=FORMATS,
            help="by default what the name of the file ends with, else csv",
        )
        parser.add_argument(
            "--since",
            type=_day,
            metavar="DATE",
            help="only invoices dated on or after this day, in REPORT_TIME_ZONE",
        )
        parser.add_argument(
            "--until",
            type=_day,
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
        parser.add_argument(
            "--delimiter", choices=[",", ";"], default=",", help="between CSV columns"
        )
        parser.add_argument(
            "--decimal-comma", action="store_true", help="write 1234,50 (with ; only)"
        )
        parser.add_argument(
            "--bom",
            action="store_true",
            help="begin the CSV file with a byte order mark, which Excel needs",
        )
        parser.add_argument(
            "--output",
            metavar="FILE",
            help="the file, which replaces an older one; otherwise standard output",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._export(options)
        except (OrbError, OrbConfigurationError) as err:
            raise CommandError(str(err)) from err
        except Error as err:
            raise CommandError(f"The mirror cannot be read: {err}") from err

    def _export(self, options: dict[str, Any]) -> None:
        path, columns = options["output"], options["columns"]
        style = services.CsvStyle(
            delimiter=options["delimiter"],
            decimal_comma=options["decimal_comma"],
            bom=options["bom"],
        )
        ending = Path(path).suffix.lower().lstrip(".") if path else ""

        def export_to(output: Any) -> int:
            return services.export_rows(
                chosen(options),
                output=output,
                lines=options["lines"],
                file_format=options["format"]
                or (ending if ending in FORMATS else "csv"),
                columns=columns.split(",") if columns else None,
                style=style,
            )

        if path:
            count = export_to(path)
            what = "line items" if options["lines"] else "invoices"
            self.stdout.write(f"Wrote {count} {what} to {path}.")
            return
        # Nothing is printed of an export that fails on its way.
        with TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as whole:
            export_to(whole)
            whole.seek(0)
            shutil.copyfileobj(whole, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def chosen(options: dict[str, Any]) -> QuerySet[Invoice]:
    """
    Return the invoices that the options ask for.

    Raises:
        CommandError: the days are in the wrong order.
    """
    since, until = options["since"], options["until"]
    if since and until and since > until:
        raise CommandError("--since is after --until.")
    zone = ZoneInfo(get_settings().REPORT_TIME_ZONE)
    conditions: dict[str, Any] = {}
    if since:
        conditions["invoice_date__gte"] = datetime.combine(since, time(), zone)
    if until and until < date.max:
        day_after = until + timedelta(days=1)
        conditions["invoice_date__lt"] = datetime.combine(day_after, time(), zone)
    if options["status"]:
        conditions["status__in"] = options["status"]
    if options["currency"]:
        conditions["currency"] = options["currency"]
    return Invoice.objects.filter(**conditions)


def _day(text: str) -> date:
    try:
        day = parse_date(text)
    except ValueError:
        day = None
    if day is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2026-01-31.")
    return day
