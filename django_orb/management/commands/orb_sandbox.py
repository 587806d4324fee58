from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_orb.testing.__main__ import main


class Command(BaseCommand):
    help = "Run an Orb with a made-up account on this machine, as python -m django_orb.testing."
    requires_system_checks = []  # it needs no settings

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=0, help="default: a free one")
        parser.add_argument("--invoices", type=int, default=1000)
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--latency-ms", type=float, default=0)
        parser.add_argument("--api-key", default="sandbox-key")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from django_orb.testing import OrbSandbox  # noqa: F401
        except ImportError as err:
            raise CommandError(str(err)) from err
        names = ("host", "port", "invoices", "seed", "latency_ms", "api_key")
        main([f"--{name.replace('_', '-')}={options[name]}" for name in names])
