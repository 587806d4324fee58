"""Remove personal data from the history of Django's admin, if that is installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import apps
from django.db import models, router
from django.db.models import Q

from django_orb.fields import search_key
from django_orb.models import Invoice, InvoiceLineItem

ERASED = "The text was erased with the customer's personal data."
_TERMS_AT_ONCE = 100
_FILTER, _SEARCH = "; filter: ", "q="
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

    Those are exports, whose filters may name the customer, and links to the portal, which
    are recorded under the customer's name. The entries themselves stay. Searches find
    customers in any case and by the beginning of their ids, so that counts, too.
    """
    for model in (Invoice, InvoiceLineItem):
        entries = _entries_of(model)
        if entries is None:
            return
        of_no_row = entries.filter(object_id=None)
        for some in _parts([customer_id, *own_ids]):
            named = Q()
            for term in some:
                named |= Q(change_message__icontains=term)
            for entry in of_no_row.filter(named):
                if not _blank_filter(entry):
                    entry.object_repr = customer_id
                    entry.save(update_fields=["object_repr"])
        keys = [search_key(own_id) for own_id in own_ids]
        for entry in of_no_row.filter(change_message__contains=_SEARCH).iterator():
            _, _, text = entry.change_message.partition(_FILTER)
            _, _, searched = text.partition(_SEARCH)
            key = search_key(searched.partition(", ")[0].strip())
            is_telling = len(key) >= _TELLING_LETTERS
            if is_telling and any(one.startswith(key) for one in keys):
                _blank_filter(entry)


def _blank_filter(entry: Any) -> bool:
    """Remove the filter from the entry of an export. Return whether it is one."""
    what, is_export, _ = entry.change_message.partition(_FILTER)
    if is_export:
        entry.change_message = f"{what}{_FILTER}erased"
        entry.save(update_fields=["change_message"])
    return bool(is_export)


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


def _parts(terms: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(terms), _TERMS_AT_ONCE):
        yield terms[start : start + _TERMS_AT_ONCE]
