from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from django import forms
from django.contrib.admin.widgets import AdminDateWidget, AdminTextInputWidget
from django.utils import timezone
from django.utils.formats import get_format, number_format
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_orb.conf import get_settings
from django_orb.exceptions import OrbConfigurationError, OrbInputError
from django_orb.formatting import recorded
from django_orb.operations import (
    MAX_TERMS,
    UNCHANGED,
    NewLineItem,
    exact_number,
    invoice_body,
    line_item_body,
    read_note,
    update_body,
)


class NumberInput(AdminTextInputWidget):
    """A text field, so that no digit is lost; phones offer digits."""

    def __init__(self) -> None:
        super().__init__(attrs={"inputmode": "decimal", "class": "orb-number"})


class NumberField(forms.CharField):
    """
    A number as the active language writes it. It stays a text, so that no digit is
    lost.
    """

    widget = NumberInput

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return f"{exact_number(read_typed(text), 'number'):f}"
        except (OrbInputError, ValueError) as err:
            words = gettext("“%(text)s” is not a number; write it as in %(example)s.")
            example = number_format(Decimal("1234.5"), 2)
            raise forms.ValidationError(
                words % {"text": text, "example": example}
            ) from err


def read_typed(text: str) -> str:
    """
    Return a number that is written in the active language, in a machine's form.

    Raises:
        ValueError: it is not written so, in full: "1,2,3" is not a number in English.
    """
    decimal_point = get_format("DECIMAL_SEPARATOR")
    separator = get_format("THOUSAND_SEPARATOR")
    sign = text[:1] if text[:1] in ("+", "-", "\N{MINUS SIGN}") else ""
    whole, point, places = text[len(sign) :].partition(decimal_point)
    plain = whole
    if separator and whole and not whole.isdecimal():
        # A language's space may be a narrow one, which no keyboard has.
        typed = (
            "".join(separator if one.isspace() else one for one in whole)
            if separator.isspace()
            else whole
        )
        plain = typed.replace(separator, "")
        # Python refuses to read thousands of digits as a number.
        is_usual = len(plain) <= 20 and plain.isdecimal()
        # The language itself says where it separates: groups are not of three
        # everywhere.
        if not is_usual or number_format(int(plain), force_grouping=True) != typed:
            raise ValueError(text)
    if not (plain + places).isdecimal() or bool(point) != bool(places):
        raise ValueError(text)
    return f"{'-' if sign not in ('', '+') else ''}{plain or '0'}.{places or '0'}"


class NoteForm(forms.Form):
    """Why something is done, kept with the operation; the last field of other forms."""

    required_css_class = "required"

    note = forms.CharField(
        required=False,
        label=_("Internal note"),
        widget=forms.Textarea(attrs={"rows": 2, "class": "orb-text"}),
        help_text=_(
            "Why this is done. It is kept here with the operation; neither Orb nor the "
            "customer gets it."
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Wrong settings are told when the action is tried.
        with contextlib.suppress(OrbConfigurationError):
            self.fields["note"].required = get_settings().NOTES_REQUIRED
        self.order_fields([name for name in self.fields if name != "note"])

    def clean_note(self) -> str:
        try:
            return read_note(self.cleaned_data["note"])
        except OrbInputError as err:
            raise forms.ValidationError(recorded(str(err))) from err

    @property
    def own_fields(self) -> list[str]:
        """The names of the other fields, which make up what is sent."""
        return [name for name in self.base_fields if name != "note"]


class RequestForm(forms.Form):
    """A form whose values the service checks before anything is asked of Orb."""

    #: Returns the body of Orb's request.
    make_body: ClassVar[Callable[..., dict[str, Any]]]

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if not self.errors:
            try:
                self.body = self.make_body(**self.arguments(values))
            except OrbInputError as err:
                # It may be one that this form leaves out.
                field = err.field if err.field in self.fields else None
                self.add_error(field, capfirst(recorded(str(err))))
        return values

    def arguments(self, values: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the keyword arguments of the service."""
        raise NotImplementedError


class LineItemForm(RequestForm, NoteForm):
    """A line item as `services.create_invoice_line_item` takes it."""

    make_body = staticmethod(line_item_body)
    required_css_class = "required"

    name = forms.CharField(
        required=False,
        label=_("Name"),
        widget=AdminTextInputWidget,
        help_text=_("As the customer reads it on the invoice."),
    )
    item_id = forms.CharField(
        required=False,
        label=_("Item in Orb"),
        widget=AdminTextInputWidget,
        help_text=_(
            "The id of an item; without one, Orb uses the item of that name, or "
            "creates one."
        ),
    )
    quantity = NumberField(label=_("Quantity"), initial="1")
    # Orb's dashboard takes negative amounts. Whether its API does is not documented, so
    # that is left to Orb.
    amount = NumberField(
        label=_("Amount"),
        help_text=_(
            "The line's total before tax, not the unit price. A negative amount is a credit."
        ),
    )
    start_date = forms.DateField(
        label=_("Start"), widget=AdminDateWidget, initial=timezone.localdate
    )
    end_date = forms.DateField(
        label=_("End"),
        widget=AdminDateWidget,
        initial=timezone.localdate,
        help_text=_("Both are days in the customer's time zone."),
    )

    def __init__(
        self, *args: Any, currencies: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if len(currencies) == 1:
            self.fields["amount"].label = gettext("Amount in %(currency)s") % {
                "currency": currencies[0]
            }

    def arguments(self, values: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the keyword arguments of the service."""
        given = self.cleaned_data if values is None else values
        return {name: given[name] for name in self.own_fields}


class CustomerInput(AdminTextInputWidget):
    """A text field that suggests the customers in the page's list of them."""

    def __init__(self) -> None:
        super().__init__(attrs={"list": "orb-customers", "autocomplete": "off"})


class InvoiceForm(RequestForm):
    """A one-off invoice of one line, as `services.create_invoice` takes it."""

    make_body = staticmethod(invoice_body)
    required_css_class = "required"

    customer_id = forms.CharField(
        required=False,
        label=_("Customer in Orb"),
        widget=CustomerInput,
        help_text=_(
            "Orb's id of the customer. Those of the newest invoices are suggested."
        ),
    )
    external_customer_id = forms.CharField(
        required=False,
        label=_("Or your id of the customer"),
        widget=AdminTextInputWidget,
    )
    # Orb refuses any other than the customer's, and the mirror knows customers by their
    # invoices only.
    currency = forms.CharField(
        label=_("Currency"),
        max_length=20,
        initial="USD",
        widget=AdminTextInputWidget,
        help_text=_("The customer's currency, such as USD."),
    )
    invoice_date = forms.DateField(
        label=_("Invoice date"),
        widget=AdminDateWidget,
        initial=timezone.localdate,
        help_text=_("A day in the customer's time zone, at most a year ahead."),
    )
    net_terms = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_TERMS,
        label=_("Net terms in days"),
        help_text=_("0 for due on issue. Empty uses the customer's terms."),
    )
    # Orb takes either this or net terms.
    due_date = forms.DateField(
        required=False,
        label=_("Due date"),
        widget=AdminDateWidget,
        help_text=_("A day in the customer's time zone, instead of net terms."),
    )
    item_id = forms.CharField(
        label=_("Item in Orb"),
        widget=AdminTextInputWidget,
        help_text=_("The id of the item that is sold."),
    )
    name = forms.CharField(
        label=_("Name"),
        widget=AdminTextInputWidget,
        help_text=_("As the customer reads it on the invoice."),
    )
    quantity = NumberField(label=_("Quantity"), initial="1")
    unit_amount = NumberField(
        label=_("Unit price"),
        help_text=_("Before tax; the line's amount is this times the quantity."),
    )
    start_date = forms.DateField(
        label=_("Start"), widget=AdminDateWidget, initial=timezone.localdate
    )
    end_date = forms.DateField(
        label=_("End"),
        widget=AdminDateWidget,
        initial=timezone.localdate,
        help_text=_("Both are days in the customer's time zone."),
    )
    memo = forms.CharField(
        required=False,
        label=_("Memo"),
        widget=forms.Textarea(attrs={"rows": 3, "class": "orb-text"}),
        help_text=_("Shown to the customer on the invoice. Empty uses the default."),
    )
    will_auto_issue = forms.BooleanField(
        required=False,
        label=_("Issue it on its date"),
        help_text=_(
            "At once if that date has come. If not ticked, it stays a draft, to which "
            "lines can be added, until it is issued."
        ),
    )

    def arguments(self, values: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the keyword arguments of the service."""
        given = dict(self.cleaned_data if values is None else values)
        names = NewLineItem.__annotations__
        line = {name: given.pop(name) for name in names}
        return {
            "line_items": [line],
            **{name: None if value == "" else value for name, value in given.items()},
        }


class PaymentForm(NoteForm):
    """The details of a payment that `services.mark_invoice_paid` takes."""

    required_css_class = "required"

    payment_received_date = forms.DateField(
        label=_("Received on"), widget=AdminDateWidget, initial=timezone.localdate
    )
    external_id = forms.CharField(
        required=False,
        label=_("Reference"),
        widget=AdminTextInputWidget,
        help_text=_("The payment's number in the other system, such as the bank's."),
    )
    notes = forms.CharField(
        required=False,
        label=_("Notes"),
        widget=forms.Textarea(attrs={"rows": 3, "class": "orb-text"}),
    )


class EditForm(RequestForm, NoteForm):
    """
    Metadata as lines of "key = value", and terms and due date while it is a draft.

    The form sends back what it showed, so that only what the user changed is changed.
    """

    make_body = staticmethod(update_body)
    metadata = forms.CharField(
        required=False,
        label=_("Metadata"),
        strip=False,
        widget=forms.Textarea(attrs={"rows": 8, "class": "orb-text"}),
        help_text=_(
            "One line for each: key = value. A line that is taken away removes its key."
        ),
    )
    net_terms = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_TERMS,
        label=_("Net terms in days"),
        help_text=_("0 for due on issue. Empty leaves it as it is."),
    )
    due_date = forms.DateField(
        required=False,
        label=_("Due date"),
        widget=AdminDateWidget,
        help_text=_(
            "A day in the customer's time zone, instead of net terms. Empty "
            "leaves it as it is."
        ),
    )

    def __init__(self, data: Any, *, shown: Mapping[str, str], is_draft: bool) -> None:
        super().__init__(data, initial={"metadata": as_lines(shown)})
        self.shown = shown
        if not is_draft:
            # Orb changes these on drafts only.
            del self.fields["net_terms"], self.fields["due_date"]

    def clean_metadata(self) -> dict[str, str | None]:
        """Return what changes: a value of None removes its key."""
        given: dict[str, str] = {}
        for line in self.cleaned_data["metadata"].splitlines():
            key, equals, value = line.partition("=")
            key = key.strip()
            if not line.strip():
                continue
            if not equals or not key:
                raise forms.ValidationError(
                    gettext("“%(line)s” is not of the form key = value.")
                    % {"line": line}
                )
            if key in given:
                raise forms.ValidationError(
                    gettext("“%(key)s” is given twice.") % {"key": key}
                )
            given[key] = value.strip()
        changed = {k: v for k, v in given.items() if self.shown.get(k) != v}
        removed = [key for key in editable(self.shown) if key not in given]
        return {**changed, **dict.fromkeys(removed)}

    def arguments(self, values: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the keyword arguments of the service: what changes."""
        given = self.cleaned_data if values is None else values
        # Also what this form leaves out, because only drafts have it.
        all_values = {name: given.get(name) for name in self.own_fields}
        return {
            name: UNCHANGED if value in (None, {}) else value
            for name, value in all_values.items()
        }


def as_lines(metadata: Mapping[str, str]) -> str:
    return "\n".join(f"{key} = {value}" for key, value in editable(metadata).items())


def editable(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the entries that fit on a line; the others stay as they are."""
    return {
        key: value
        for key, value in metadata.items()
        if "=" not in key
        and key == key.strip()
        and value == value.strip()
        # The full stop is there because `splitlines` ignores a line break at the end.
        and len(f"{key}={value}.".splitlines()) == 1
    }
