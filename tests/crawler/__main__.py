"""
Crawl the pages of a project: `python -m tests.crawler`, with the project's settings.

It prints what is wrong with them, and how many there were.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from typing import Any

import django
import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.test import Client
from django.test.utils import setup_test_environment

from tests import times


class Errors(logging.Handler):
    """What is logged as an error, which nobody would see."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("django.security"):  # answered with 400
            self.texts.append(self.format(record))


def main(arguments: argparse.Namespace) -> int:
    django.setup()
    setup_test_environment(debug=False)
    errors = Errors()
    logging.getLogger().addHandler(errors)
    from django_orb.testing import OrbSandbox

    # A sandbox whose clock stands still: no draft is issued in the middle.
    from .account import INVOICES

    prepare()
    with OrbSandbox(invoices=INVOICES, seed=arguments.seed) as orb:
        settings.DJANGO_ORB.update(
            API_KEY=orb.api_key,
            BASE_URL=orb.base_url,
            READS_PER_SECOND=2000,
            WRITES_PER_SECOND=2000,
        )
        faults = crawl(orb, arguments)
    for text in errors.texts:
        faults.setdefault(f"logged: {text}", "the log")
    for fault, where in faults.items():
        print(f"- {fault}\n    {where}")
    print("No fault." if not faults else f"{len(faults)} faults.")
    return bool(faults)


def prepare() -> None:
    if apps.is_installed("people"):
        call_command("makemigrations", "people", verbosity=0)
    if getattr(settings, "STATIC_ROOT", None):
        call_command("collectstatic", interactive=False, verbosity=0)
    call_command("migrate", verbosity=0)


def crawl(orb: Any, arguments: argparse.Namespace) -> dict[str, str]:
    from .account import fill, make_staff, starts
    from .crawling import Crawler

    # Nothing of the sandbox lags, so there is nothing to wait for.
    times.rule(pytest.MonkeyPatch(), sleep=lambda seconds: None)
    fill(orb)
    users, pages = make_staff(), starts()
    faults: dict[str, str] = {}
    for name in arguments.staff.split(","):
        began = time.process_time()
        client = Client(headers={"accept-language": arguments.language})
        client.force_login(users[name])
        crawler = Crawler(
            client,
            visits=arguments.visits,
            rounds=arguments.rounds if name == "superuser" else arguments.others,
            most=arguments.most,
            is_plain=not arguments.restyled,
        )
        crawler.crawl(pages)
        crawler.ask_for_rubbish()
        if name == "superuser" and arguments.most > crawler.pages:
            crawler.look_for_lost_pages()
        for fault, where in crawler.faults.items():
            faults.setdefault(f"{name}: {fault}", where)
        seconds = time.process_time() - began
        print(f"{name}: {crawler.pages} pages, {crawler.sent} forms, {seconds:.1f} s")
    return faults


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crawler")
    parser.add_argument("--staff", default="superuser,viewer,voider,stranger")
    parser.add_argument("--language", default="en")
    parser.add_argument("--visits", type=int, default=1, help="of each route")
    parser.add_argument("--rounds", type=int, default=1, help="of rubbish")
    parser.add_argument(
        "--others", type=int, default=0, help="rounds of those who may do less"
    )
    parser.add_argument("--most", type=int, default=10_000, help="pages to open")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--restyled", action="store_true", help="the templates are not Django's"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(read_arguments()))
