"""Export what a list shows: the form, and the file that is downloaded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryFile
from typing import Any

from asgiref.sync import sync_to_async
from django import forms
from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import (
    ERROR_FLAG,
    ORDER_VAR,
    PAGE_VAR,
    SEARCH_VAR,
    ChangeList,
)
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import get_format
from django.utils.translation import gettext, pgettext
from django.utils.translation import gettext_lazy as _

from django_orb import services
from django_orb.conf import get_settings
from django_orb.exceptions import OrbExportError, in_english
from django_orb.exports import CANNOT_WRITE, Column, columns_of, default_columns
from django_orb.formatting import recorded
from django_orb.models import InvoiceLineItem

from .readonly import ReadOnlyAdmin, outside_transactions

PERMISSION = "django_orb.export_invoice"
# How a CSV file is written, by the name of the choice.
CSV_STYLES: dict[str, dict[str, Any]] = {
    "csv": {},
    "csv_semicolon": {"delimiter": ";", "decimal_comma": True},
    "csv_semicolon_point": {"delimiter": ";"},
}
TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


class FileForm(forms.Form):
    """Asks for the kind of file."""

    file_format = forms.ChoiceField(
        label=_("File"),
        choices=[
            ("csv", _("CSV with commas, 1234.50")),
            ("csv_semicolon", _("CSV with semicolons, 1234,50")),
            ("csv_semicolon_point", _("CSV with semicolons, 1234.50")),
            ("xlsx", _("Excel workbook (XLSX)")),
        ],
        help_text=_(
            "CSV has all digits of every amount; numbers in an Excel workbook have 15."
        ),
    )
    bom = forms.BooleanField(
        label=_("Mark CSV as UTF-8 (BOM)"),
        required=False,
        initial=True,
        help_text=_("Excel needs this to read names such as “Müller”."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Most likely the reader's Excel writes numbers as the admin does.
        if get_format("DECIMAL_SEPARATOR") == ",":
            self.fields["file_format"].initial = "csv_semicolon"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for the service that writes the file."""
        chosen = self.cleaned_data["file_format"]
        style = {**CSV_STYLES.get(chosen, {}), "bom": self.cleaned_data["bom"]}
        return {
            "file_format": "xlsx" if chosen == "xlsx" else "csv",
            "style": services.CsvStyle(**style),
        }


@dataclass(frozen=True)
class Exported:
    """The export of a list; `write` gets a query, and what the form says of the file."""

    what: str
    title: str
    columns: Sequence[Column]
    initial: Sequence[str]
    write: Callable[..., int]


class ExportForm(FileForm):
    columns = forms.MultipleChoiceField(
        label=_("Columns"),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Choose at least one column.")},
    )

    def __init__(self, exported: Exported, *args: Any) -> None:
        super().__init__(*args)
        columns: Any = self.fields["columns"]
        columns.choices = [(one.name, one.label) for one in exported.columns]
        columns.initial = exported.initial

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "columns": self.cleaned_data["columns"]}


class DownloadResponse(FileResponse):
    """
    Like Django's, but does not read the whole file into memory under ASGI.

    It says the file's length, so that no browser takes a part of it for the whole.
    """

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts: Iterator[bytes] = iter(self.streaming_content)  # type: ignore[arg-type]
        # Django would make a list of all parts first. Any thread will do, because
        # reading the file asks no database.
        read = sync_to_async(lambda: next(parts, None), thread_sensitive=False)
        while (part := await read()) is not None:
            yield part


def make_download(
    form: FileForm, write: Callable[..., int], name: str
) -> tuple[DownloadResponse, int] | None:
    """
    Return a whole file and its number of rows; None if the form says why there is none.
    """
    arguments = form.arguments()
    with ExitStack() as stack:
        try:
            folder = settings.FILE_UPLOAD_TEMP_DIR
            whole = stack.enter_context(TemporaryFile(dir=folder))
            count = write(output=whole, **arguments)
        except OrbExportError as err:
            form.add_error(None, _explain(err))
            return None
        except OSError as err:
            failed = OrbExportError(CANNOT_WRITE, detail=str(err))
            form.add_error(None, _explain(failed))
            return None
        # Open until the response is closed, which then removes it.
        stack.pop_all()
    whole.seek(0)
    file_format = arguments["file_format"]
    day = timezone.localdate().isoformat()
    response = DownloadResponse(
        whole,
        as_attachment=True,
        filename=f"{name.replace(' ', '-')}-{day}.{file_format}",
        content_type=TYPES[file_format],
    )
    return response, count


def log_export(
    request: HttpRequest, model: Any, what: str, form: FileForm, details: str
) -> None:
    """Record in the admin's history who exported what."""
    file_format = form.arguments()["file_format"].upper()
    # Django's `log_change` wants a row, and an export has none.
    LogEntry.objects.create(
        user=request.user,  # type: ignore[misc]
        content_type=ContentType.objects.get_for_model(model),
        object_repr=in_english(_("Export")),
        action_flag=CHANGE,
        # In English for everyone, as all that is stored.
        change_message=f"Exported {what} as {file_format}; {details}",
    )


class ExportingAdmin(ReadOnlyAdmin):
    """A list with *Export…*: writes all rows that the filters match to a file."""

    #: Whether its rows have line items, which may be exported instead.
    has_lines = False

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        wrap = self.admin_site.admin_view
        own = [path("export/", wrap(self.export_view), name=name)]
        if self.has_lines:
            view, kwargs = wrap(self.export_view), {"lines": True}
            own.append(path("export-lines/", view, kwargs, name=f"{name}_lines"))
        return own + super().get_urls()

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        may_export = self.has_export_permission(request)
        context = {"may_export": may_export, **(extra_context or {})}
        return super().changelist_view(request, context)

    def has_export_permission(self, request: HttpRequest, lines: bool = False) -> bool:
        may_view = self.has_view_permission(request)
        if lines:
            may_view &= request.user.has_perm("django_orb.view_invoicelineitem")
        return may_view and request.user.has_perm(PERMISSION)

    def exported(self, lines: bool) -> Exported:
        are_lines = lines or self.model is InvoiceLineItem
        return Exported(
            "line items" if are_lines else "invoices",
            gettext("Export line items") if are_lines else gettext("Export invoices"),
            columns_of(lines=are_lines),
            default_columns(lines=are_lines),
            partial(services.export_rows, lines=lines),
        )

    # Only outside the request's transaction can the export choose an isolation level
    # that shows one instant. It may also take minutes.
    @outside_transactions
    def export_view(
        self, request: HttpRequest, lines: bool = False
    ) -> HttpResponseBase:
        if not self.has_export_permission(request, lines):
            raise PermissionDenied
        try:
            # The list itself reads the address, so what it shows is what is exported.
            changelist = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            # As the list does: an export of all rows is not what was asked for.
            return HttpResponseRedirect(f"{self._url('changelist')}?{ERROR_FLAG}=1")
        is_sent = request.method == "POST"
        form = ExportForm(self.exported(lines), request.POST if is_sent else None)
        if form.is_valid():
            response = self._export(request, changelist, form, lines=lines)
            if response is not None:
                return response
        return self._show(request, changelist, form, lines=lines)

    def _export(
        self,
        request: HttpRequest,
        changelist: ChangeList,
        form: ExportForm,
        *,
        lines: bool,
    ) -> DownloadResponse | None:
        """Write the whole file, and only then send it; None if there is none."""
        exported = self.exported(lines)
        what = exported.what

        def write(**file: Any) -> int:
            return exported.write(changelist.queryset, **file)

        made = make_download(form, write, what)
        if made is None:
            return None
        response, count = made
        given = [
            f"{name}={text}"
            for name, texts in sorted(request.GET.lists())
            for text in texts
            # These do not choose rows: all pages are exported.
            if text and name not in (PAGE_VAR, ORDER_VAR, ERROR_FLAG)
        ]
        log_export(
            request,
            self.model,
            f"{count} {what}",
            form,
            f"filter: {', '.join(given) or 'none'}",
        )
        return response

    def _show(
        self,
        request: HttpRequest,
        changelist: ChangeList,
        form: ExportForm,
        *,
        lines: bool,
    ) -> HttpResponse:
        request.current_app = self.admin_site.name
        query = changelist.get_query_string(remove=[PAGE_VAR, ORDER_VAR, ERROR_FLAG])
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "title": self.exported(lines).title,
            "subtitle": None,
            "form": form,
            "lines": lines,
            "has_lines": self.has_lines and self.has_export_permission(request, True),
            "changelist": changelist,
            "chosen": read_filters(request, changelist),
            "zone": get_settings().REPORT_TIME_ZONE,
            "list_url": f"{self._url('changelist')}{query}",
            "export_url": f"{self._url('export')}{query}",
            "lines_url": f"{self._url('export_lines')}{query}"
            if self.has_lines
            else "",
        }
        return TemplateResponse(request, "admin/django_orb/export.html", context)

    def _url(self, view: str) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{view}"
        return reverse(name, current_app=self.admin_site.name)


def _explain(err: OrbExportError) -> str:
    reason = recorded(err.reason)
    return f"{reason} ({err.detail})" if err.detail else reason


def read_filters(request: HttpRequest, changelist: ChangeList) -> list[tuple[str, str]]:
    """Return the names of the filters that are set, each with what was chosen."""
    chosen: list[tuple[str, str]] = []
    known: set[str] = set()
    for spec in changelist.filter_specs:
        names = {name for name in spec.expected_parameters() if name}
        known |= names
        if not any(request.GET.get(name) for name in names):
            continue
        selected = [
            str(choice["display"])
            for choice in spec.choices(changelist)
            if choice["selected"]
        ]
        if selected:
            chosen.append((str(spec.title), ", ".join(selected)))
    if term := request.GET.get(SEARCH_VAR, "").strip():
        chosen.append((pgettext("noun", "search"), term))
    # Parameters of an address that are not among the list's filters.
    for name in sorted(changelist.get_filters_params().keys() - known):
        if name not in (PAGE_VAR, ERROR_FLAG):
            chosen.append((name, request.GET.get(name, "")))
    return chosen
