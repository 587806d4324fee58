from __future__ import annotations

import signal
import sys
import threading
from functools import partial
from types import FrameType
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_orb import publishing, services, tasks
from django_orb.account import accept_key
from django_orb.exceptions import (
    OrbConfigurationError,
    OrbError,
    OrbSyncRunningError,
    in_english,
)
from django_orb.management.options import read_moment
from django_orb.management.printing import PrintingCommand
from django_orb.management.progress import ProgressPrinter
from django_orb.models import SyncRun
from django_orb.sync import runs

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Command(PrintingCommand):
    help = "Bring the mirror of Orb's invoices up to date."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--mode",
            choices=["incremental", "full"],
            default="incremental",
            help="incremental: open or recent invoices. full: all, also those gone.",
        )
        parser.add_argument(
            "--since",
            type=read_moment,
            metavar="DATE",
            help="every invoice dated at or after this (UTC unless it has an offset)",
        )
        parser.add_argument(
            "--invoice",
            action="append",
            metavar="ID",
            help="only this invoice; may be repeated",
        )
        parser.add_argument(
            "--in-process",
            action="store_true",
            help="do the work here instead of in workers, and show it",
        )
        parser.add_argument(
            "--accept-missing",
            action="store_true",
            help="believe Orb when it no longer knows many invoices",
        )
        parser.add_argument(
            "--accept-key",
            action="store_true",
            help="believe that a new API key belongs to the mirror's account",
        )
        parser.add_argument(
            "--announce",
            action="store_true",
            help="send signals also for invoices that the first full run finds",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            # First, since the sync itself would refuse the key.
            if options["accept_key"]:
                accept_key()
            if options["in_process"] or options["invoice"]:
                self._work_here(options)
            else:
                self._start(options)
        except OrbConfigurationError as err:
            raise CommandError(str(err)) from err
        except OrbError as err:
            raise CommandError(str(err)) from err

    def _work_here(self, options: dict[str, Any]) -> None:
        printer = ProgressPrinter(self.stdout)
        stopping = False
        shown: SyncRun | None = None

        def stop(number: int, frame: FrameType | None) -> None:
            # The run stops after a step; a second signal interrupts even a transaction,
            # as does the first while there is no step to wait for.
            nonlocal stopping
            if stopping or shown is None or not shown.is_active:
                raise KeyboardInterrupt
            stopping = True

        def show(run: SyncRun) -> None:
            nonlocal shown
            shown = run
            printer.show(run)
            if stopping:
                raise KeyboardInterrupt

        # The handlers before come back below: `call_command` runs this in processes
        # that have some of their own.
        # Python takes handlers only in the main thread. A scheduler's own thread is
        # stopped by other means.
        is_main = threading.current_thread() is threading.main_thread()
        numbers = _SIGNALS if is_main else ()
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            run = services.sync_invoices(
                mode=options["mode"],
                since=options["since"],
                invoice_ids=options["invoice"],
                accept_missing=options["accept_missing"],
                announce=options["announce"],
                on_step=show,
            )
        except KeyboardInterrupt:
            printer.close()
            self.stderr.write("Stopped. The next call goes on where this one stopped.")
            # What shells report for a program that was interrupted.
            sys.exit(130)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        printer.close()
        self.stdout.write(_summary(run))
        # The run has succeeded, but the exit status is 0 only if everything went well.
        if run.failed:
            raise CommandError(run.error)

    def _start(self, options: dict[str, Any]) -> None:
        kind = services.run_kind(mode=options["mode"], since=options["since"])
        try:
            run = runs.start_run(
                kind,
                since=options["since"],
                accept_missing=options["accept_missing"],
                announce=options["announce"],
            )
        except OrbSyncRunningError as err:
            raise CommandError(str(err)) from err
        # `wake`, because a broker that is silent would make the user
        # wait for each window.
        runs.send_due(run, partial(publishing.wake, tasks.sync_page))
        # Windows whose message was sent are leased, and so not due.
        if runs.due_windows(run=run):
            self.stdout.write(
                f"Recorded {in_english(run)}. The message broker is out of reach, so "
                "it waits, and starts automatically once the broker is back. Without "
                "workers, use --in-process."
            )
            return
        self.stdout.write(
            f"Started {in_english(run)}. Workers do it; the admin shows its "
            "progress. Without workers, use --in-process."
        )


def _summary(run: SyncRun) -> str:
    parts = [
        f"{run.invoices} invoices seen: {run.created} new, {run.updated} changed, "
        f"{run.unchanged} unchanged"
    ]
    if run.failed:
        parts.append(f"{run.failed} not understood")
    if run.missing:
        parts.append(f"{run.missing} gone from Orb")
    return f"{', '.join(parts)}. {run.requests} requests."
