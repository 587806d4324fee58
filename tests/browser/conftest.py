from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from tests import databases

from .browsing import SCREENSHOTS, WIDE, Drive, Steps, log_in

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# The admin's links would change their colour slowly.
WITHOUT_FADING = """
    document.addEventListener("DOMContentLoaded", () => {
        const style = document.createElement("style");
        style.textContent = "* { transition: none !important }";
        document.head.append(style);
    })
"""
STEP_MILLISECONDS = 40_000
TEST_SECONDS = 360


@pytest.fixture
def drive(live_server: Any) -> Iterator[Drive]:
    """
    Return a function that runs steps with a page of a logged-in browser.

    They run in a thread of their own: Playwright keeps an event loop in its
    thread, in which Django would refuse to use the database.
    """
    user = get_user_model().objects.create_superuser("finance", password="finance")
    user.first_name, user.last_name = "Ada", "Lovelace"
    user.save()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def run(steps: Steps) -> None:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=databases.chromium(), args=ARGUMENTS
            )
            page = browser.new_page(viewport=WIDE, base_url=live_server.url)
            page.set_default_timeout(STEP_MILLISECONDS)
            page.add_init_script(WITHOUT_FADING)
            page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "console",
                lambda line: (
                    problems.append(f"{line.text} {line.location.get('url')}")
                    if line.type == "error"
                    else None
                ),
            )
            log_in(page)
            steps(page)
            browser.close()
            assert problems == []

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield lambda steps: pool.submit(run, steps).result(timeout=TEST_SECONDS)
