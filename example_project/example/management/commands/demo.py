"""
Mirror an account and show it in the admin, in one process.

Without ORB_API_KEY the account is the sandbox's, newly made up each time.
"""

from __future__ import annotations

import argparse
import secrets
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.servers.basehttp import get_internal_wsgi_application, run
from django.db import connection
from django.db.models import Count

from django_orb.exceptions import OrbConfigurationError, OrbError
from django_orb.management.progress import ProgressPrinter
from django_orb.models import Invoice, InvoiceLineItem, SyncRun
from django_orb.services import sync_invoices
from django_orb.testing import OrbSandbox
from example.models import Account

HOST = "127.0.0.1"


class Progress(ProgressPrinter):
    """Progress towards the sandbox's number of invoices; Orb does not tell its own."""

    expected = 0

    def _expect(self, run: SyncRun) -> int:
        return self.expected or super()._expect(run)


class Command(BaseCommand):
    help = "Mirror an Orb account, made up or (with ORB_API_KEY) yours, and show it."
    requires_system_checks = []  # the key to check exists only once the sandbox runs

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--invoices",
            type=_number(1, 1_000_000),
            default=2000,
            help="size of the made-up account (default: 2000)",
        )
        parser.add_argument(
            "--no-serve", action="store_true", help="exit when everything is mirrored"
        )
        parser.add_argument(
            "--port",
            type=_number(0, 65_535),
            default=8000,
            help="default: 8000, or a free port if that is taken",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if connection.vendor != "sqlite":
            raise CommandError("The demo runs on example.settings, with SQLite.")
        database = Path(connection.settings_dict["NAME"])
        port = None if options["no_serve"] else options["port"]
        try:
            with _only_demo_on(database):
                if settings.DJANGO_ORB["API_KEY"]:
                    self.show_account(port)
                else:
                    self.show_sandbox(database, options["invoices"], port)
        except KeyboardInterrupt:
            self.stdout.write("\nStopped before everything was mirrored.")
            sys.exit(130)
        except (OrbError, OrbConfigurationError) as err:
            raise CommandError(str(err)) from err

    def show_sandbox(self, database: Path, size: int, port: int | None) -> None:
        self.stdout.write(
            "ORB_API_KEY is not set: a sandbox on this machine stands in."
        )
        for file in database.parent.glob(f"{database.name}*"):
            file.unlink()  # the account is new, and this mirrors the previous one
        with OrbSandbox(invoices=size) as orb:
            settings.DJANGO_ORB.update(API_KEY=orb.api_key, BASE_URL=orb.base_url)
            self.mirror(expected=size)
            make_trouble(orb)
            sync_invoices()  # also for what Orb's clock has issued meanwhile
            self.compare(orb.status_counts())
            create_accounts(orb)
            self.serve(port, {"demo": "demo", "viewer": "viewer"})

    def show_account(self, port: int | None) -> None:
        self.stdout.write("ORB_API_KEY is set: this is Orb itself, not the sandbox.")
        self.mirror()
        for status, count in self.counts().items():
            self.stdout.write(f"  {status:<10}{count:>10,}")
        # A user who logs in can void for real, so the passwords are random.
        self.serve(port, {name: secrets.token_hex(6) for name in ("demo", "viewer")})

    def mirror(self, *, expected: int = 0) -> None:
        self.check()
        call_command("migrate", verbosity=0)
        printer = Progress(self.stdout)
        printer.expected = expected
        started = time.monotonic()
        try:
            run = sync_invoices(mode="full", on_step=printer.show)
        finally:
            printer.close()
        self.stdout.write(
            f"Mirrored {run.invoices:,} invoices with "
            f"{InvoiceLineItem.objects.count():,} lines "
            f"in {time.monotonic() - started:.0f} s.\n\n"
        )
        if run.failed:
            raise CommandError(run.error)

    def counts(self) -> dict[str, int]:
        """Return the number of the mirror's invoices by status."""
        by_status = Invoice.objects.order_by("status").values_list("status")
        return dict(by_status.annotate(count=Count("pk")))

    def compare(self, in_sandbox: dict[str, int]) -> None:
        mirrored = self.counts()
        self.stdout.write(f"  {'':<10}{'mirror':>10}{'sandbox':>10}")
        for status in sorted({*mirrored, *in_sandbox}):
            counts = mirrored.get(status, 0), in_sandbox.get(status, 0)
            self.stdout.write(f"  {status:<10}{counts[0]:>10,}{counts[1]:>10,}")
        if mirrored != in_sandbox:
            raise CommandError("The mirror does not equal the sandbox.")

    def serve(self, port: int | None, passwords: dict[str, str]) -> None:
        """Serve the admin until Ctrl-C; without a port, only create its users."""
        create_users(passwords)
        if port is None:
            return

        def announce(bound: object) -> None:
            self.stdout.write(f"\nOpen http://127.0.0.1:{bound}/ and log in as\n")
            self.stdout.write(f"  demo    {passwords['demo']:<14} (may do everything)")
            self.stdout.write(f"  viewer  {passwords['viewer']:<14} (may only view)")
            self.stdout.write("Ctrl-C quits.\n\n")

        application = StaticFilesHandler(get_internal_wsgi_application())
        try:
            for wanted in (port, 0):
                try:
                    run(HOST, wanted, application, threading=True, on_bind=announce)
                except OSError as err:
                    self.stdout.write(f"\nPort {wanted}: {err.strerror}.")
        except KeyboardInterrupt:
            self.stdout.write("\nStopped.")


def make_trouble(orb: OrbSandbox) -> None:
    """Have Orb fail at a few invoices, for reasons that only its events tell."""
    drafts, issued = orb.invoice_ids("draft"), orb.invoice_ids("issued")
    for invoice_id in drafts[:2]:
        orb.fail_issue(invoice_id)
    for invoice_id in issued[:3]:
        orb.attempt_payment(invoice_id, succeeds=False)
    for invoice_id in issued[3:4]:
        orb.fail_sync(invoice_id)
    for invoice_id in orb.invoice_ids("paid")[:2]:
        orb.sync_accounting(invoice_id, succeeds=False)


def create_accounts(orb: OrbSandbox) -> None:
    """Create this product's accounts, with the names of the made-up customers."""
    customers = [orb.customer(customer_id) for customer_id in orb.customer_ids()]
    Account.objects.bulk_create(
        Account(
            external_customer_id=customer["external_customer_id"], name=customer["name"]
        )
        for customer in customers
        if customer["external_customer_id"]
    )


def create_users(passwords: dict[str, str]) -> None:
    """Create the admin's users: `demo` may do everything, `viewer` only view."""
    users = get_user_model().objects
    for name, password in passwords.items():
        is_demo = name == "demo"
        user, _ = users.update_or_create(
            username=name, defaults={"is_staff": True, "is_superuser": is_demo}
        )
        user.set_password(password)
        user.save()
    views = Permission.objects.filter(
        content_type__app_label="django_orb", codename__startswith="view_"
    )
    users.get(username="viewer").user_permissions.set(views)


def _number(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text} is not from {low} to {high}")
        return int(text)

    return number


@contextmanager
def _only_demo_on(database: Path) -> Iterator[None]:
    """Lock the database, or refuse to run if another demo is using it."""
    if not database.parent.is_dir():
        raise CommandError(
            f"There is no folder {database.parent}: create it, or name another in "
            "EXAMPLE_DATA."
        )
    lock = sqlite3.connect(database.with_suffix(".lock.sqlite3"), timeout=0)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as err:
        raise CommandError(
            f"Another demo is using {database}: stop it, or give this one a folder "
            "of its own in EXAMPLE_DATA."
        ) from err
    else:
        yield
    finally:
        lock.close()
