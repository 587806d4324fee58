from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_orb.management.printing import PrintingCommand
from django_orb.testing.__main__ import add_options, main


class Command(PrintingCommand):
    help = "Run Orb's API with a made-up account here, as python -m django_orb.testing."
    requires_system_checks = []  # it needs no settings

    def add_arguments(self, parser: CommandParser) -> None:
        add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from django_orb.testing import OrbSandbox  # noqa: F401
        except ImportError as err:
            raise CommandError(str(err)) from err
        names = ("host", "port", "invoices", "seed", "latency_ms", "api_key")
        main([f"--{name.replace('_', '-')}={options[name]}" for name in names])
