"""The host project's names for Orb's customers, which invoices lack."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .conf import get_settings
from .formatting import safe_link
from .models import Invoice

logger = logging.getLogger(__name__)

#: The most customers that a search may find.
# Each becomes two parameters of the statement that searches.
MAX_FOUND = 500


class Customer(NamedTuple):
    """The customer of an invoice; `external_customer_id` is empty if Orb has none."""

    customer_id: str
    external_customer_id: str


class CustomerLabel(NamedTuple):
    """A customer's name for people, and the host project's page about it, or ""."""

    name: str
    url: str = ""


def label_customers(invoices: Iterable[Invoice]) -> None:
    """Set `customer_label` on each invoice, with one call of the host's function."""
    invoices = list(invoices)
    labels = read_labels({customer_of(invoice) for invoice in invoices})
    for invoice in invoices:
        customer = customer_of(invoice)
        invoice.customer_label = labels.get(customer) or _fallback(customer)


def label_of(invoice: Invoice) -> CustomerLabel:
    if not hasattr(invoice, "customer_label"):
        label_customers([invoice])
    label: CustomerLabel = invoice.customer_label
    return label


def customer_of(invoice: Invoice) -> Customer:
    return Customer(invoice.customer_id, invoice.external_customer_id)


def read_labels(customers: Iterable[Customer]) -> dict[Customer, CustomerLabel]:
    """
    Return the labels of `CUSTOMER_LABELS`; none, and a log record, if it fails.

    A customer without a name is called by the id.
    """
    try:
        labels = ask_for_labels(customers)
        return {
            customer: label if label.name else _fallback(customer, label.url)
            for customer, label in labels.items()
        }
    except Exception:
        # It is the project's own code: a page with ids is of more use than an error.
        logger.exception("CUSTOMER_LABELS failed; customers are shown by their ids.")
        return {}


def ask_for_labels(customers: Iterable[Customer]) -> dict[Customer, CustomerLabel]:
    """As `read_labels`; what the host's function raises is the caller's to handle."""
    wanted = sorted(customers)
    function = host_function("CUSTOMER_LABELS")
    if function is None or not wanted:
        return {}
    given: Mapping[str, Any] = function(wanted)
    return {
        customer: _label(value)
        for customer in wanted
        if (value := _given_to(customer, given))
    }


def find_customers(text: str) -> list[str]:
    """Return the ids, Orb's or the host's, that `CUSTOMER_SEARCH` finds for a text."""
    try:
        function = host_function("CUSTOMER_SEARCH")
        if function is None:
            return []
        found = [str(found_id) for found_id in islice(function(text), MAX_FOUND)]
    except Exception:
        logger.exception("CUSTOMER_SEARCH failed; invoices are found by ids alone.")
        return []
    # An empty one would find all invoices without an id of the project's.
    return [found_id for found_id in found if found_id]


def host_function(name: str) -> Callable[[Any], Any] | None:
    """Return the function whose dotted path a setting has; None if it is empty."""
    path = getattr(get_settings(), name)
    if not path:
        return None
    if not isinstance(path, str):
        raise ImproperlyConfigured(
            f'DJANGO_ORB["{name}"] is {path!r}, which is not a path.'
        )
    try:
        function = import_string(path)
    # The latter two come from paths without a module, such as ".label".
    except (ImportError, TypeError, ValueError) as err:
        raise ImproperlyConfigured(
            f'DJANGO_ORB["{name}"] names {path!r}, which cannot be imported: {err}'
        ) from err
    if not callable(function):
        raise ImproperlyConfigured(
            f'DJANGO_ORB["{name}"] names {path!r}, which is not a function.'
        )
    found: Callable[[Any], Any] = function
    return found


def _given_to(customer: Customer, given: Mapping[str, Any]) -> Any:
    """Look up a customer by the host's id if it has a value, else by Orb's."""
    # Customers without one would share the label of the empty id.
    by_external_id = customer.external_customer_id and given.get(
        customer.external_customer_id
    )
    return by_external_id or given.get(customer.customer_id)


def _label(value: Any) -> CustomerLabel:
    name, url = (value, "") if isinstance(value, str) else value
    text = "" if name is None else str(name)
    # Half of a surrogate pair can be neither on a page nor in a file.
    name = text.encode("utf-8", "replace").decode()
    return CustomerLabel(name, safe_link(str(url or ""), or_path=True))


def _fallback(customer: Customer, url: str = "") -> CustomerLabel:
    return CustomerLabel(customer.external_customer_id or customer.customer_id, url)
