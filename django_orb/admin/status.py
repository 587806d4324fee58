"""Show on one page whether all is well, in words."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext

from django_orb.formatting import local_moment
from django_orb.models import Status
from django_orb.status import Finding, Verdict, read_status

from .badges import Look, badge
from .readonly import ReadOnlyAdmin, outside_transactions

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
class StatusAdmin(ReadOnlyAdmin):
    """A page in the place of a list; users who may view runs may see it."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("django_orb.view_syncrun")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        # Orb may take its time, for which no transaction should be open.
        view = outside_transactions(self.admin_site.admin_view(self.changelist_view))
        return [path("", view, name="django_orb_status_changelist")]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the page. A POST asks Orb first."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        request.current_app = self.admin_site.name
        report = read_status(ask_orb=request.method == "POST")
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Status"),
            "subtitle": None,
            "opts": self.opts,
            "media": self.media,
            "verdict": verdict_badge(report.verdict, gettext("All is well")),
            "rows": [row_of(finding) for finding in report.findings],
            "read_at": local_moment(report.read_at),
        }
        return TemplateResponse(request, "admin/django_orb/status.html", context)


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
