"""Remove personal data from the history of Django's admin, if that is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl

from django.apps import apps
from django.db import models, router
from django.db.models import Q

from django_orb.models import Invoice, InvoiceLineItem
from django_orb.models.fields import search_key

ERASED = "The text was erased with the customer's personal data."
_FILTER = "; filter: "
# The parameters that may hold a project's own id: the search, and those with this in
# their names.
_SEARCH, _CUSTOMER = "q", "customer"
_PARAMETER = re.compile(r"(?:^|, )([^\s=,]+)=")
# A shorter search names no customer.
_TELLING_LETTERS = 3


def blank_entries(model: type[models.Model], rows: models.QuerySet[Any]) -> None:
    """Remove the texts of the entries about these rows; the entries themselves stay."""
    entries = _entries_of(model)
    if entries is None:
        return
    ids = [str(pk) for pk in rows.order_by().values_list("pk", flat=True)]
    if ids:
        entries.filter(object_id__in=ids).update(change_message=ERASED)


def blank_named(customer_id: str, own_ids: Sequence[str]) -> None:
    """
    Remove what names the customer from entries that do not belong to a row.

    Those are exports, whose filters may name the customer by any id, and links to the
    portal, which are recorded under Orb's. The entries themselves stay. The project's own
    ids may be as short as "6", so they count only as the whole value of a parameter that
    chooses customers. But a search finds customers by the beginning of their ids, in any
    case, so that counts, too.
    """
    own = [one.strip().casefold() for one in own_ids if one.strip()]
    # Such as "cus7", but not within "cus77" or "cus7-b".
    by_id = re.compile(rf"(?<![\w-]){re.escape(customer_id)}(?![\w-])")
    for model in (Invoice, InvoiceLineItem):
        entries = _entries_of(model)
        if entries is None:
            return
        may_name = Q(change_message__contains=_FILTER)
        may_name |= Q(change_message__contains=customer_id)
        for entry in entries.filter(may_name, object_id=None).iterator():
            what, is_export, filters = entry.change_message.partition(_FILTER)
            if is_export:
                if by_id.search(filters) or _names_any(filters, own):
                    entry.change_message = f"{what}{_FILTER}erased"
                    entry.save(update_fields=["change_message"])
            elif by_id.search(what):
                entry.object_repr = customer_id
                entry.save(update_fields=["object_repr"])


def _names_any(filters: str, own_ids: Sequence[str]) -> bool:
    """Tell whether an export's filters name a customer by one of the project's ids."""
    for name, text in _parameters(filters):
        value = text.strip().casefold()
        if name == _SEARCH:
            key = search_key(text.strip())
            is_telling = len(key) >= _TELLING_LETTERS
            if value in own_ids or (
                is_telling and any(one.startswith(key) for one in own_ids)
            ):
                return True
        # A lookup may give several, such as `external_customer_id__in`.
        elif _CUSTOMER in name and any(f",{one}," in f",{value}," for one in own_ids):
            return True
    return False


def _parameters(filters: str) -> Iterator[tuple[str, str]]:
    """Yield the parameters of an export's filters, which are a list or an address."""
    parts = _PARAMETER.split(filters)
    yield from zip(parts[1::2], parts[2::2], strict=True)
    yield from parse_qsl(filters)


def _entries_of(model: type[models.Model]) -> models.QuerySet[Any] | None:
    if not apps.is_installed("django.contrib.admin"):
        return None
    log: Any = apps.get_model("admin", "LogEntry")
    types: Any = apps.get_model("contenttypes", "ContentType")
    # They may be in another database than the mirror.
    alias = router.db_for_write(log)
    manager: Any = types.objects
    kind = manager.db_manager(alias).get_for_model(model)
    return log.objects.using(alias).filter(content_type=kind)  # type: ignore[no-any-return]
