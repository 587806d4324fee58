"""The base of the pages before and after an action."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext, ngettext

from django_orb.admin.invoice_page import newest, operations_of, read_operation_view
from django_orb.conf import get_settings
from django_orb.customer_labels import label_customers
from django_orb.exceptions import OrbConfigurationError
from django_orb.formatting import short
from django_orb.models import Invoice, InvoiceOperation, SyncRun
from django_orb.templatetags.orb_admin import address_of, linked

from .outcomes import Outcome, explain
from .selection import MAX_INVOICES, FormToken, Skipped, new_token, read_token

# A message about an invoice: its level, the text and the invoice.
Told = tuple[int, str, Invoice]

# So many messages are left, and so many reasons named in one that sums up.
TOLD_IN_FULL = 5
REASONS = 3
# In characters: all messages but those that sum up, one of them, a link, and a reason.
ROOM = 1000
LONGEST = 600
LENGTH_OF_LINK = 120
LENGTH_OF_REASON = 90


def _told_of_skipped(one: Skipped) -> Told:
    text = gettext("Skipped. %(reason)s") % {"reason": one.reason}
    return messages.WARNING, text, one.invoice


def _sum_up(reasons: Counter[str]) -> str:
    """Say how many other invoices there are, and what is said of most of them."""
    count = reasons.total()
    common = reasons.most_common(REASONS)
    named = [
        f"{Truncator(text).chars(LENGTH_OF_REASON)} ({number})"
        for text, number in common
    ]
    told = ngettext(
        "And %(count)s other: %(reasons)s", "And %(count)s others: %(reasons)s", count
    ) % {"count": count, "reasons": " · ".join(named)}
    return told if len(reasons) <= REASONS else f"{told} · …"


@dataclass(frozen=True)
class ActionContext:
    """An action on chosen invoices, asked for by one request."""

    model_admin: Any
    request: HttpRequest
    invoices: Sequence[Invoice]
    action: str
    back_url: str

    @property
    def user_id(self) -> object:
        return self.request.user.pk

    @property
    def is_confirmed(self) -> bool:
        return self.request.POST.get("post") == "yes"

    def token(self, kind: str) -> tuple[FormToken, bool]:
        """The form's token, and whether it came with the request."""
        raw = self.request.POST.get("token", "")
        token = read_token(raw, user_id=self.user_id, kind=kind)
        return token or new_token(user_id=self.user_id, kind=kind), bool(token)

    def seal(
        self, token: FormToken, shown: Iterable[Invoice], fields: object = None
    ) -> str:
        """Bind the form's token to what the form shows, for `confirms`."""
        # Both what was selected and what is shown of it: what was left out, with the
        # reason, is not confirmed, even if it allows the action later.
        selected = [invoice.pk for invoice in self.invoices]
        return token.sealed(selected, [invoice.pk for invoice in shown], fields)

    def confirms(
        self, token: FormToken, chosen: Iterable[Invoice], fields: object = None
    ) -> bool:
        """Return whether these invoices and values are what the user has confirmed."""
        if not self.is_confirmed:
            return False
        selected = [invoice.pk for invoice in self.invoices]
        if token.covers(selected, [invoice.pk for invoice in chosen], fields):
            return True
        text = gettext(
            "These are not the invoices or values that were confirmed. Nothing was "
            "sent: check them, and confirm again."
        )
        self.say(messages.WARNING, text)
        return False

    def render(self, template: str, context: dict[str, Any]) -> TemplateResponse:
        label_customers(self.invoices)
        request, site = self.request, self.model_admin.admin_site
        request.current_app = site.name
        common = {
            **site.each_context(request),
            "opts": self.model_admin.opts,
            "media": self.model_admin.media,
            "subtitle": None,
            "action": self.action,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "back_url": self.back_url,
            "invoices": self.invoices,
            "obstacle": obstacle(),
        }
        template = f"admin/django_orb/invoice/{template}"
        return TemplateResponse(request, template, {**common, **context})

    def say(self, level: int, text: str, invoice: Invoice | None = None) -> None:
        """Leave a message, which begins with a link to the invoice it is about."""
        if invoice is not None:
            url = change_url(self.model_admin, invoice.pk)
            text = format_html(
                '<a href="{}">{}</a>: {}', url, short(str(invoice)), text
            )
        self.model_admin.message_user(self.request, text, level)

    def say_of_run(self, level: int, text: str, run: SyncRun) -> None:
        """Leave a message that leads those who may see it to a run's progress."""
        if self.request.user.has_perm("django_orb.view_syncrun"):
            url = address_of(self.model_admin.admin_site.name, "syncrun_change", run.pk)
            if url:
                progress = linked(url, gettext("See its progress."))
                text = format_html("{} {}", text, progress)
        self.say(level, text)

    def report(
        self,
        outcomes: Iterable[Outcome],
        *,
        logged: set[str],
        skipped: Iterable[Skipped] = (),
    ) -> None:
        """
        Tell of each outcome, and leave one entry of history, the first time.
        """
        found: list[Told] = []
        for outcome in outcomes:
            found.append((outcome.level, outcome.text, outcome.invoice))
            if outcome.log and outcome.invoice.pk not in logged:
                self.model_admin.log_change(self.request, outcome.invoice, outcome.log)
        self._tell([*found, *map(_told_of_skipped, skipped)])

    def report_skipped(self, skipped: Iterable[Skipped]) -> None:
        self._tell([*map(_told_of_skipped, skipped)])

    def _tell(self, found: Sequence[Told]) -> None:
        """
        Leave a message for each of a few invoices, and sum up what is said of others.

        A project may keep messages in a cookie, and browsers drop one of over 4 kB.
        """
        # With more than a few, the worst first: successes can be summed up.
        ordered = found
        if len(found) > TOLD_IN_FULL:
            ordered = sorted(found, key=lambda one: one[0], reverse=True)
        room, alone = ROOM, 0
        for level, text, invoice in ordered[:TOLD_IN_FULL]:
            cut = Truncator(text).chars(LONGEST)
            room -= len(cut) + LENGTH_OF_LINK
            if alone and room < 0:
                break
            self.say(level, cut, invoice)
            alone += 1
        reasons: dict[int, Counter[str]] = {}
        for level, text, _ in ordered[alone:]:
            reasons.setdefault(level, Counter())[str(text)] += 1
        for level, counted in reasons.items():
            self.say(level, _sum_up(counted))

    def is_too_many(self, most: int = MAX_INVOICES) -> bool:
        if len(self.invoices) <= most:
            return False
        text = gettext("Choose at most %(most)s invoices; nothing was done.") % {
            "most": most
        }
        self.say(messages.ERROR, text)
        return True

    def tells_of_others(
        self, invoices: Iterable[Invoice], token: FormToken, kind: str, text: str
    ) -> bool:
        """Warn of what other users asked for after this confirmation was shown."""
        seen = read_pk(self.request.POST.get("newest_operation", ""))
        ids = [invoice.pk for invoice in invoices]
        # What this very form asked for, if it is sent twice.
        mine = {token.key_for(invoice_id) for invoice_id in ids}
        others = [
            operation
            for operation in operations_of(ids, recent=True)
            if operation.pk > seen
            and operation.kind == kind
            # A refused one changed nothing.
            and operation.state != InvoiceOperation.State.REFUSED
            and operation.idempotency_key not in mine
        ]
        if others:
            told = gettext(
                "See below. Nothing was sent: confirm again if you still want yours."
            )
            self.say(messages.WARNING, f"{text} {told}")
        return bool(others)

    def recent(self) -> dict[str, Any]:
        """Return what was done lately to these invoices, to warn of doing it twice."""
        currencies = {one.pk: one.currency for one in self.invoices}
        numbers = {one.pk: str(one) for one in self.invoices}
        operations = operations_of(list(currencies), recent=True)
        with_currency = [(one, currencies[one.invoice_id]) for one in operations]
        return {
            "recent": [
                (numbers[one.invoice_id], read_operation_view(one, currency))
                for one, currency in with_currency
            ],
            # A text: templates write numbers as people read them, such as 2,000.
            "newest_operation": str(newest(operations)),
        }


def read_pk(raw: str) -> int:
    """
    Read a row's number that a form sent back; 0 without one, so that all are newer.
    """
    return int(raw) if raw.isdecimal() and len(raw) < 20 else 0


def change_url(model_admin: Any, invoice_id: str) -> str:
    return invoice_url(model_admin, "change", invoice_id)


def invoice_url(model_admin: Any, view: str, invoice_id: str) -> str:
    """Return the address of one of an invoice's own pages."""
    opts = model_admin.opts
    return reverse(
        f"admin:{opts.app_label}_{opts.model_name}_{view}",
        args=[quote(invoice_id)],
        current_app=model_admin.admin_site.name,
    )


def obstacle() -> str:
    """Return why nothing can be written to Orb from here, or "" if it can."""
    try:
        is_read_only = get_settings().READ_ONLY
    except OrbConfigurationError as err:
        return explain(err)
    if not is_read_only:
        return ""
    return gettext(
        'This installation only reads from Orb (DJANGO_ORB["READ_ONLY"] is on); '
        "nothing can be changed from here."
    )
