from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_orb import services
from django_orb.exceptions import OrbInputError
from django_orb.management.printing import PrintingCommand
from django_orb.models import CustomerErasure


class Command(PrintingCommand):
    help = (
        "Erase a customer's personal data from everything that is stored here, and keep "
        "it out. Amounts, numbers, dates and statuses stay. Nothing changes in Orb."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("customer", help="the customer's id in Orb")
        parser.add_argument(
            "--undo",
            action="store_true",
            help="keep it out no longer: the next full sync fills the invoices again",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        customer_id = options["customer"]
        try:
            if options["undo"]:
                services.undo_erasure(customer_id)
                self.stdout.write(
                    f"Customer {customer_id} is no longer erased. Run "
                    "orb_sync_invoices --mode full to fill the invoices again."
                )
                return
            erasure = services.erase_customer(
                customer_id,
                origin=CustomerErasure.Origin.COMMAND.value,
                on_step=self._show,
            )
        except OrbInputError as err:
            raise CommandError(str(err)) from err
        # All else was erased; the exit status tells that a person has to
        # look at the rest.
        if erasure.error:
            raise CommandError(erasure.error)
        self.stdout.write(
            f"Erased the personal data of customer {customer_id}, also in "
            f"{erasure.invoices} invoices."
        )

    def _show(self, erasure: CustomerErasure) -> None:
        # A log would keep each of these lines, which only replace each
        # other on a terminal.
        if self.stdout.isatty():
            text = f"\r{erasure.stage}: {erasure.invoices} invoices "
            self.stdout.write(text, ending="")
            self.stdout.flush()
