from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_orb import tasks
from django_orb.exceptions import OrbConfigurationError, OrbError
from django_orb.management.printing import PrintingCommand


class Command(PrintingCommand):
    help = "Run a task of the schedule here, as cron does where Celery beat does not."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("task", choices=["recover", "sync_invoices", "prune"])
        parser.add_argument(
            "--mode",
            choices=["incremental", "full"],
            default="incremental",
            help="of sync_invoices, whose work is done by workers",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            # Called, not sent: the task runs here, and only the work that it
            # hands on needs workers.
            if options["task"] == "sync_invoices":
                tasks.sync_invoices(options["mode"])
            elif options["task"] == "recover":
                tasks.recover()
            else:
                tasks.prune()
        except (OrbConfigurationError, OrbError) as err:
            raise CommandError(str(err)) from err
