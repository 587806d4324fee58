"""Whatever is in a text of Orb's, of a customer's or of an error, stays a text."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.template import Context, Template
from django.test import Client
from django.urls import reverse

from django_orb.models import Invoice

from .everything import make_one_of_everything, pages
from .pages import choose

LONG = "w" * 10_000
EVIL = [
    pytest.param("<script>alert(1)</script>", id="script"),
    pytest.param('"><img src=x onerror=alert(1)>', id="attribute"),
    pytest.param("\u202ergb fo lla\u2066 مبلغ", id="right-to-left"),
    pytest.param("{{ settings.SECRET_KEY }}{% now 'Y' %}%(name)s%s", id="template"),
    pytest.param(LONG, id="long"),
]


@pytest.fixture(params=EVIL)
def text(request: pytest.FixtureRequest, db: Any) -> str:
    """It is everywhere."""
    text: str = request.param
    make_one_of_everything(text)
    return text


def assert_harmless(text: str, name: str, page: str) -> None:
    if "<" in text:
        assert text not in page, name
        assert "alert(1)>" not in page.replace("alert(1)&gt;", ""), name
    links = re.findall(r'(?:href|src|action)="([^"]*)"', page)
    assert not any(link.lower().startswith(("javascript", "data")) for link in links)
    assert "django-orb-tests" not in page, name  # the secret key
    if name.endswith("list") or name in ("index", "app"):
        longest = max(re.findall(r">(w+)", page), key=len, default="")
        assert len(longest) <= 60, name


@pytest.mark.proof
def test_no_page_of_the_admin_is_led_astray(text: str, finance: Client) -> None:
    shown = pages(finance)

    for name, page in shown.items():
        assert_harmless(text, name, page)
    for action in ("void_selected", "issue_selected", "mark_selected_paid"):
        response = finance.post(
            reverse("admin:django_orb_invoice_changelist"),
            choose(action, "draft", "issued", "paid", "void"),
            follow=True,
        )
        assert_harmless(text, action, response.content.decode())


def test_nor_is_what_customers_see(text: str) -> None:
    for invoice in Invoice.objects.filter(status__in=["issued", "paid"])[:1]:
        source = "{% load orb %}{% orb_invoices customer_id=id %}"
        page = Template(source).render(Context({"id": invoice.customer_id}))
        assert_harmless(text, "customer's list", page)
