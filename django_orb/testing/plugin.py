"""
Fixtures for pytest, which loads this wherever the package is installed.

Nothing is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from . import InvoiceFactory, OrbSandbox, OrbWebhook

MARKER = (
    "orb_sandbox(**options): how `orb_sandbox` is made, as in OrbSandbox(**options)"
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def orb_sandbox(request: pytest.FixtureRequest) -> Iterator[OrbSandbox]:
    """An Orb on loopback for this test, which DJANGO_ORB points at."""
    from .environment import use_sandbox

    marker = request.node.get_closest_marker("orb_sandbox")
    with use_sandbox(**marker.kwargs if marker else {}) as sandbox:
        yield sandbox


@pytest.fixture
def orb_invoice_factory(request: pytest.FixtureRequest) -> InvoiceFactory:
    """Makes stored invoices; they are in the sandbox too, if the test has one."""
    from . import InvoiceFactory

    has_sandbox = "orb_sandbox" in request.fixturenames
    return InvoiceFactory(
        request.getfixturevalue("orb_sandbox") if has_sandbox else None
    )


@pytest.fixture
def orb_webhook(orb_sandbox: OrbSandbox) -> OrbWebhook:
    """Sends signed webhooks to the project's own endpoint."""
    from . import OrbWebhook

    return OrbWebhook(orb_sandbox)
