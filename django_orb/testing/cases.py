"""The sandbox for Django's own test cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from .endpoint import OrbWebhook
from .environment import use_sandbox
from .factories import InvoiceFactory

if TYPE_CHECKING:
    from django.test import SimpleTestCase as Base

    from .sandbox import OrbSandbox
else:
    Base = object


class OrbSandboxMixin(Base):
    """
    Gives each test a sandbox, invoices and webhooks, as pytest's fixtures do.

        class BillingTests(OrbSandboxMixin, TestCase):
            orb_options = {"invoices": 200}
    """

    #: The arguments of `OrbSandbox`.
    orb_options: ClassVar[dict[str, Any]] = {}

    orb_sandbox: OrbSandbox
    orb_invoice_factory: InvoiceFactory
    orb_webhook: OrbWebhook

    def setUp(self) -> None:
        super().setUp()
        sandbox = use_sandbox(**self.orb_options)
        self.orb_sandbox = sandbox.__enter__()
        self.addCleanup(sandbox.__exit__, None, None, None)
        self.orb_invoice_factory = InvoiceFactory(self.orb_sandbox)
        self.orb_webhook = OrbWebhook(self.orb_sandbox)
