"""A product with pages for its customers, who are asked who they are in the address."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template import Context, Template
from django.urls import include, path

from django_orb.models import Invoice
from django_orb.services import current_links

PAGE = Template("""
{% load orb i18n %}{% get_current_language as language %}
<!DOCTYPE html>
<html lang="{{ language }}">
<head>
  <title>Billing</title>
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <style>:root { color-scheme: light dark }
    body { font: 16px sans-serif; background: Canvas; color: CanvasText }
    a { color: LinkText }
  </style>
</head>
<body><main>
  <h1>Billing</h1>
  {% orb_invoices external_customer_id=customer opens="mine" %}
</main></body>
</html>
""")


def show(request: HttpRequest, customer: str) -> HttpResponse:
    return HttpResponse(PAGE.render(Context({"customer": customer})).lstrip())


def open_one(request: HttpRequest, invoice_id: str) -> HttpResponse:
    invoice = get_object_or_404(Invoice, pk=invoice_id)
    return HttpResponseRedirect(current_links(invoice).hosted_invoice_url)


urlpatterns = [
    path("", include("tests.urls")),
    path("billing/<slug:customer>/", show, name="billing"),
    path("mine/<path:invoice_id>/", open_one, name="mine"),
]
