"""The pages that a customer of this product sees."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from django_orb.models import Invoice
from django_orb.services import current_links

from .models import Account


def my_invoices(request: HttpRequest) -> HttpResponse:
    account = account_of(request)
    return render(request, "example/invoices.html", {"account": account})


def my_invoice(request: HttpRequest, invoice_id: str) -> HttpResponse:
    """Redirect customers to Orb's page of their own invoice, where it can be paid."""
    mine = Invoice.objects.for_customer(
        external_customer_id=account_of(request).external_customer_id
    )
    invoice = get_object_or_404(mine, pk=invoice_id)
    return redirect(current_links(invoice).hosted_invoice_url)


def account_of(request: HttpRequest) -> Account:
    """Return the account that the URL names; a real product takes the user's."""
    chosen = request.GET.get("account") or request.session.get("account", "")
    account = get_object_or_404(Account, external_customer_id=chosen)
    request.session["account"] = account.external_customer_id
    return account
