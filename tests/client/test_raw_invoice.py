from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from django_orb.client.raw_invoice import RawInvoice
from tests.payloads import load


def invoice(**changes: Any) -> RawInvoice:
    return RawInvoice.of({**load("invoice_issued"), **changes})


def test_signatures_of_the_invoices_own_links_leave_the_digest_alone() -> None:
    assert (
        invoice(hosted_invoice_url="https://orb.test/i?sig=1", invoice_pdf=None).digest
        == invoice(
            hosted_invoice_url="https://orb.test/i?sig=2", invoice_pdf=None
        ).digest
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"hosted_invoice_url": "https://orb.test/a?x"}, {"hosted_invoice_url": None}),
        (
            {"hosted_invoice_url": "https://orb.test/a?x"},
            {"hosted_invoice_url": "https://orb.test/b?x"},
        ),
        (
            {"metadata": {"invoice_pdf": "https://mine.test/?1"}},
            {"metadata": {"invoice_pdf": "https://mine.test/?2"}},
        ),
        ({"memo": '"invoice_pdf": "a?1"'}, {"memo": '"invoice_pdf": "a?2"'}),
        ({"total": "1.0"}, {"total": "1.00"}),
    ],
)
def test_every_other_difference_changes_the_digest(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert invoice(**one).digest != invoice(**other).digest


@pytest.mark.parametrize("last", ["metadata", "memo", "line_items"])
def test_links_are_the_invoices_own_wherever_they_stand(last: str) -> None:
    def digest(signature: int, metadata: dict[str, Any]) -> str:
        link = f"https://orb.test/i?sig={signature}"
        whole = load("invoice_issued")
        whole |= {"metadata": metadata, "invoice_pdf": link}
        whole[last] = whole.pop(last)
        return RawInvoice.of(whole).digest

    assert digest(1, {}) == digest(2, {})
    assert digest(1, {"invoice_pdf": "a?1"}) != digest(1, {"invoice_pdf": "a?2"})


def test_a_link_that_stands_last_is_the_invoices_own_whatever_metadata_has() -> None:
    def digest(signature: int) -> str:
        whole = load("invoice_issued")
        whole |= {"metadata": {"invoice_pdf": "a?1", "hosted_invoice_url": "a?1"}}
        for name in ("hosted_invoice_url", "invoice_pdf"):
            del whole[name]
            whole[name] = f"https://orb.test/i?sig={signature}"
        return RawInvoice.of(whole).digest

    assert digest(1) == digest(2)


def test_value_is_exact() -> None:
    assert RawInvoice(b'{"quantity": 1.10}').value == {"quantity": Decimal("1.1")}
