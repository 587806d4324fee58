"""A page in Chromium: who looks at it, and what it must be like."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

    from django_orb.testing import OrbSandbox

    ColorScheme = Literal["dark", "light"]

Steps = Callable[["Page"], None]
Drive = Callable[[Steps], None]

MARKS = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.parametrize("orb", [{"invoices": 240, "seed": 4}], indirect=True),
]

SCREENSHOTS = Path(
    os.environ.get("DJANGO_ORB_SCREENSHOTS")
    or Path(__file__).parents[2] / ".screenshots"
)
WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 400, "height": 800}

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
# What a narrow screen may change of the same page.
SCROLLING = {
    "runOnly": {
        "type": "rule",
        "values": ["scrollable-region-focusable", "meta-viewport"],
    }
}
# The admin's own search field has a picture for a label, and only colour tells some
# links of Django 5.2 from their text.
OURS = {
    "include": [["body"]],
    "exclude": [["#searchbar"], ["div.breadcrumbs"], ["#toolbar .quiet"]],
}

# What makes a page wider than the screen; [] if nothing does.
TOO_WIDE = """
    width => document.documentElement.scrollWidth <= width ? [] :
        [...document.querySelectorAll("body *")]
            .filter(one => one.getBoundingClientRect().right > width + 1)
            .map(one => one.outerHTML.slice(0, 200))
"""


def log_in(page: Page) -> None:
    page.goto("/admin/login/?next=/admin/django_orb/invoice/")
    page.fill("#id_username", "finance")
    page.fill("#id_password", "finance")
    page.click("input[type=submit]")
    page.wait_for_selector("#changelist")


def photograph(page: Page, name: str) -> None:
    """
    Keep the whole page, in light and dark theme and as wide as a telephone.

    In each of them it must be accessible, and no wider than the screen.
    """
    looks: list[tuple[str, ColorScheme, ViewportSize, dict[str, Any]]] = [
        ("", "light", WIDE, RULES),
        ("-dark", "dark", WIDE, CONTRAST),
        ("-narrow", "light", NARROW, SCROLLING),
    ]
    for ending, scheme, size, rules in looks:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        steadily(page, partial(_look, page, name + ending, rules, size["width"]))
    page.set_viewport_size(WIDE)


def _look(page: Page, name: str, rules: dict[str, Any], width: int) -> None:
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    found = barriers(page, rules)
    assert found == [], (name, str(found)[:1500])
    assert page.evaluate(TOO_WIDE, width) == [], name


def steadily(page: Page, call: Callable[[], None]) -> None:
    """Again, when the page loaded itself anew meanwhile: one with progress does."""
    from playwright.sync_api import Error

    for _ in range(4):
        try:
            return call()
        except Error:
            page.wait_for_load_state()
    return call()


def barriers(page: Page, rules: dict[str, Any]) -> list[str]:
    """Barriers to using our part of the page, by axe-core's rules."""
    from axe_playwright_python.sync_playwright import Axe

    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    violations = page.evaluate(
        "([ours, rules]) => axe.run(ours, rules).then(found => found.violations)",
        [OURS, {"resultTypes": ["violations"], **rules}],
    )
    return [
        f"{violation['id']}: {node['html'][:300]}"
        for violation in violations
        for node in violation["nodes"]
    ]


def page_of(invoice_id: str) -> str:
    return f"/admin/django_orb/invoice/{invoice_id}/change/"


def richest(orb: OrbSandbox, status: str) -> str:
    """Return the invoice of a status that has most to show."""

    def wealth(invoice_id: str) -> int:
        invoice = orb.invoice(invoice_id)
        lines = invoice["line_items"]
        return (
            5 * sum(bool(line["sub_line_items"]) for line in lines)
            + 3 * sum(bool(line["adjustments"]) for line in lines)
            + 2 * bool(invoice["customer_balance_transactions"])
            + len(lines)
        )

    return max(orb.invoice_ids(status), key=wealth)


def choose(page: Page, model: str, action: str, ids: list[Any]) -> None:
    """Start one of a list's actions on some of its rows."""
    page.goto(f"/admin/django_orb/{model}/")
    for pk in ids:
        page.check(f"input[name=_selected_action][value='{pk}']")
    page.select_option("select[name=action]", action)
    page.click("button[name=index]")
