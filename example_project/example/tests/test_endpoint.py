"""Tests of webhooks, with Django's own test cases."""

from __future__ import annotations

from django.test import LiveServerTestCase, TestCase

from django_orb.models import Invoice
from django_orb.testing import OrbSandboxMixin
from example.models import Access


class EndpointTests(OrbSandboxMixin, TestCase):
    def test_an_issued_invoice_is_mirrored(self) -> None:
        made = self.orb_sandbox.add_invoice(amount="80.00")

        response = self.orb_webhook("invoice.issued", made)

        self.assertEqual(response.status_code, 200)
        self.assertEqual(Invoice.objects.get().pk, made["id"])

    def test_a_webhook_with_another_secret_is_refused(self) -> None:
        payload = self.orb_sandbox.webhook_payload(
            "invoice.issued", self.orb_sandbox.invoice_ids()[0]
        )

        response = self.orb_webhook.send(payload, secret="a guess")

        self.assertEqual(response.status_code, 400)
        self.assertFalse(Invoice.objects.exists())


class LiveTests(OrbSandboxMixin, LiveServerTestCase):
    def test_webhooks_may_come_twice_and_in_any_order(self) -> None:
        self.orb_webhook.deliver_to(
            self.live_server_url, duplicates=1.0, shuffle_seconds=0.2
        )
        made = self.orb_sandbox.add_invoice(external_customer_id="crm-17")
        self.orb_sandbox.mark_paid(made["id"])

        self.assertTrue(self.orb_sandbox.webhooks.wait())

        self.assertEqual(Invoice.objects.get().status, "paid")
        self.assertEqual(Access.objects.count(), 1)
