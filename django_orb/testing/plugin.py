"""
Fixtures for pytest, which loads this module if the package is installed.

The rest of the package is imported only if a test uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from . import InvoiceFactory, OrbSandbox, OrbWebhook

MARKER = (
    "orb_sandbox(**options): the options of `orb_sandbox`, as in OrbSandbox(**options)"
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def orb_sandbox(request: pytest.FixtureRequest) -> Iterator[OrbSandbox]:
    """Run a sandbox for this test, at which DJANGO_ORB points."""
    from .environment import use_sandbox

    marker = request.node.get_closest_marker("orb_sandbox")
    with use_sandbox(**marker.kwargs if marker else {}) as sandbox:
        yield sandbox


@pytest.fixture
def orb_invoice_factory(request: pytest.FixtureRequest) -> InvoiceFactory:
    """Return a factory of stored invoices, which a sandbox of the test has too."""
    from . import InvoiceFactory

    has_sandbox = "orb_sandbox" in request.fixturenames
    return InvoiceFactory(
        request.getfixturevalue("orb_sandbox") if has_sandbox else None
    )


@pytest.fixture
def orb_webhook(orb_sandbox: OrbSandbox) -> OrbWebhook:
    """Return a sender of signed webhooks to the project's own endpoint."""
    from . import OrbWebhook

    return OrbWebhook(orb_sandbox)
