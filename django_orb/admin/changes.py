"""Describe how an invoice changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_orb import publishing, tasks
from django_orb.formatting import ago, joined, local_moment, short
from django_orb.mirror import change_log
from django_orb.models import Invoice, InvoiceChange

from .badges import INVOICE_LOOKS, UNKNOWN, badge, status_label
from .operations import code_block, invoice_link
from .readonly import ReadOnlyAdmin, outside_transactions

SHOWN = 50
MAX_RETRIES = 1000
# The only name in `changed_fields` that is not Orb's.
MISSING = "missing_since"


@dataclass(frozen=True)
class Chapter:
    """A change as the invoice's page shows it."""

    badge: SafeString
    text: str
    detail: str
    ago: str
    moment: str


def tell(change: InvoiceChange) -> str:
    """Describe a change, for instance: Issued → Paid."""
    new = status_label(change.status)
    if change.kind == InvoiceChange.Kind.CREATED:
        return gettext("First seen: %(status)s") % {"status": new}
    if change.kind == InvoiceChange.Kind.OVERDUE:
        days = change.days_overdue or 0
        text = ngettext("%(days)s day overdue", "%(days)s days overdue", days)
        return text % {"days": days}
    if change.previous_status != change.status:
        return f"{status_label(change.previous_status)} → {new}"
    if change.changed_fields == [MISSING]:
        return gettext("Deleted in Orb, or restored")
    return gettext("Changed")


def changed_names(change: InvoiceChange) -> str:
    return short(", ".join(name for name in change.changed_fields if name != "status"))


def source(change: InvoiceChange) -> str:
    return f"{change.get_origin_display()} {short(change.origin_id)}".strip()


def read_chapters(invoice: Invoice) -> list[Chapter]:
    """Return an invoice's changes, the newest first. One query."""
    return [
        Chapter(
            badge=status_badge(change),
            text=tell(change),
            detail=joined(" · ", changed_names(change), source(change)),
            ago=ago(change.created_at),
            moment=local_moment(change.created_at),
        )
        for change in InvoiceChange.objects.filter(invoice=invoice)[:SHOWN]
    ]


def status_badge(change: InvoiceChange) -> SafeString:
    look = INVOICE_LOOKS.get(change.status, UNKNOWN)
    return badge(look, status_label(change.status))


class ToldFilter(admin.SimpleListFilter):
    """Filter by changes that were not announced to receivers."""

    title = _("announced")
    parameter_name = "told"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("waiting", _("Not yet")), ("failed", _("Failed"))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[InvoiceChange]
    ) -> QuerySet[InvoiceChange]:
        if self.value() not in ("waiting", "failed"):
            return queryset
        has_failed = self.value() == "failed"
        return queryset.filter(announced_at=None, failed_at__isnull=not has_failed)


@admin.register(InvoiceChange)
class InvoiceChangeAdmin(ReadOnlyAdmin):
    """The changes of all invoices, and where they came from."""

    list_display = ("created_at", "invoice_id_link", "what", "names", "origin")
    # By what an index has: there may be millions of changes.
    sortable_by = ("created_at", "invoice_id_link")
    list_filter = (ToldFilter, "origin", "kind")
    search_fields = ("invoice_id",)
    search_help_text = _("An invoice's id.")
    fields = (
        "invoice_id_link",
        "what",
        "names",
        ("origin", "origin_id"),
        "change_id",
        ("created_at", "announced_at"),
        ("attempts", "next_attempt_at", "failed_at"),
        "trace",
    )
    readonly_fields = ("invoice_id_link", "what", "names", "trace")
    actions = ("tell_again",)

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        term = search_term.strip()
        return queryset.filter(invoice_id=term) if term else queryset, False

    def has_tell_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_orb.tell_invoicechange")

    # The action wakes a worker, which must see what it changed.
    @outside_transactions
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, extra_context)

    @admin.action(permissions=["tell"], description=_("Announce selected failed again"))
    def tell_again(self, request: HttpRequest, queryset: Any) -> None:
        failed = queryset.filter(announced_at=None, failed_at__isnull=False)
        chosen = list(failed[:MAX_RETRIES])
        if not chosen:
            self.message_user(
                request, gettext("None of them failed."), messages.WARNING
            )
            return
        ids = [change.pk for change in chosen]
        change_log.tell_again(ids)
        for change in chosen:
            self.log_change(request, change, _("Asked for it to be announced again."))
        publishing.wake(tasks.recover)
        text = ngettext(
            "%d change is announced again.", "%d changes are announced again.", len(ids)
        )
        self.message_user(request, text % len(ids), messages.SUCCESS)

    @admin.display(description=_("error"), empty_value="")
    def trace(self, change: InvoiceChange) -> SafeString:
        return code_block(change.error) if change.error else SafeString()

    @admin.display(description=_("invoice"), ordering="invoice_id")
    def invoice_id_link(self, change: InvoiceChange) -> SafeString:
        return invoice_link(change.invoice_id, self.admin_site.name)

    @admin.display(description=_("what"))
    def what(self, change: InvoiceChange) -> str:
        return tell(change)

    @admin.display(description=_("fields"), empty_value="")
    def names(self, change: InvoiceChange) -> str:
        return changed_names(change)
