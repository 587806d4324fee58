from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminDateWidget, AdminTextInputWidget
from django.utils import timezone
from django.utils.text import capfirst

from django_orb.exceptions import OrbInputError
from django_orb.inputs import line_item_body


class NumberInput(AdminTextInputWidget):
    """A text field, so that no digit is lost; phones offer digits."""

    def __init__(self) -> None:
        super().__init__(attrs={"inputmode": "decimal", "class": "orb-number"})


class LineItemForm(forms.Form):
    """
    A line item as `services.create_invoice_line_item` takes it.

    Numbers stay the text that was typed: the service reads them, exactly.
    """

    required_css_class = "required"

    name = forms.CharField(
        required=False,
        widget=AdminTextInputWidget,
        help_text="As the customer reads it on the invoice.",
    )
    item_id = forms.CharField(
        required=False,
        label="Item in Orb",
        widget=AdminTextInputWidget,
        help_text="The id of an item; without one, Orb uses the item of that name, or "
        "makes one.",
    )
    quantity = forms.CharField(widget=NumberInput, initial="1")
    amount = forms.CharField(
        widget=NumberInput,
        help_text="The line's total before tax, not the price of one. "
        "Below zero is a credit.",
    )
    start_date = forms.DateField(
        label="Start", widget=AdminDateWidget, initial=timezone.localdate
    )
    end_date = forms.DateField(
        label="End",
        widget=AdminDateWidget,
        initial=timezone.localdate,
        help_text="Both are days in the customer's time zone.",
    )

    def __init__(
        self, *args: Any, currencies: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if len(currencies) == 1:
            self.fields["amount"].label = f"Amount in {currencies[0]}"

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if not self.errors:
            try:
                self.body = line_item_body(**self.arguments(values))
            except OrbInputError as err:
                field = err.field if err.field in self.fields else None
                self.add_error(field, capfirst(str(err)))
        return values

    def arguments(self, values: dict[str, Any] | None = None) -> dict[str, Any]:
        """The keyword arguments of the service."""
        given = self.cleaned_data if values is None else values
        return {name: given[name] for name in self.fields}
