"""Ask Orb for a link to a customer's portal; it is shown once and not stored."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_orb import services
from django_orb.admin.actions import explain
from django_orb.exceptions import OrbConfigurationError, OrbError, OrbNotFoundError
from django_orb.models import Invoice

from .sections import Customer

# As long as the column of Django's log.
MAX_REPR = 200


class PortalForm(forms.Form):
    minutes = forms.TypedChoiceField(
        label=_("Valid for"),
        coerce=int,
        initial=60,
        choices=[
            (15, _("15 minutes")),
            (60, _("1 hour")),
            (services.MAX_PORTAL_MINUTES, _("3 hours")),
        ],
    )


def open_portal(
    request: HttpRequest, customer: Customer, form: Any
) -> services.PortalSession | None:
    """
    Ask Orb for a link. If there is none, say why in the form and return None.

    The entry in the admin's log says for whom and for how long, without the link.
    """
    minutes = form.cleaned_data["minutes"]
    try:
        session = services.create_portal_session(
            customer_id=customer.customer_id, expires_in_minutes=minutes
        )
    except OrbNotFoundError as err:
        text = gettext("Orb does not know this customer. %(err)s") % {"err": err.detail}
        form.add_error(None, text)
        return None
    except (OrbError, OrbConfigurationError) as err:
        form.add_error(None, explain(err))
        return None
    # Django's `log_change` wants a row, and a customer has none.
    LogEntry.objects.create(
        user=request.user,  # type: ignore[misc]
        content_type=ContentType.objects.get_for_model(Invoice),
        object_repr=customer.customer_id[:MAX_REPR],  # no name, which would outlive it
        action_flag=CHANGE,
        change_message=(
            f"Opened the portal of customer {customer.customer_id} "
            f"for {minutes} minutes."
        ),
    )
    return session
