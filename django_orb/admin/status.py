"""Show on one page whether all is well, in words."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_orb.formatting import local_moment
from django_orb.models import Status
from django_orb.status import Finding, Verdict, read_status

from .badges import Look, badge
from .readonly import PageAdmin, outside_transactions

# More of an error is on the page of its run or event.
DETAIL_CHARACTERS = 300
LOOKS = {
    Verdict.OK: Look("good", "✓"),
    Verdict.WARNING: Look("warn", "!"),
    Verdict.FAILING: Look("bad", "✕"),
}


class Row(NamedTuple):
    finding: Finding
    badge: SafeString
    details: list[str]


@admin.register(Status)
class StatusAdmin(PageAdmin):
    """Shows the status; a POST asks Orb first."""

    needed = "django_orb.view_syncrun"
    title = _("Status")
    template = "admin/django_orb/status.html"

    def get_urls(self) -> list[URLPattern]:
        patterns = super().get_urls()
        for pattern in patterns:
            # Orb may take its time, for which no transaction should be open.
            pattern.callback = outside_transactions(pattern.callback)
        return patterns

    def answer(self, request: HttpRequest) -> dict[str, Any]:
        report = read_status(ask_orb=request.method == "POST")
        return {
            "verdict": verdict_badge(report.verdict, gettext("All is well")),
            "rows": [row_of(finding) for finding in report.findings],
            "read_at": local_moment(report.read_at),
        }


def row_of(finding: Finding) -> Row:
    details = [Truncator(text).chars(DETAIL_CHARACTERS) for text in finding.details]
    return Row(finding, verdict_badge(finding.verdict), details)


def verdict_badge(verdict: Verdict, good: str = "OK") -> SafeString:
    labels = {
        Verdict.OK: good,
        Verdict.WARNING: gettext("Warning"),
        Verdict.FAILING: gettext("Failing"),
    }
    return badge(LOOKS[verdict], labels[verdict])
