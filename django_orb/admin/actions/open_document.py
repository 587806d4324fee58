"""Open the invoice's page at Orb and its PDF, whose links expire."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from django_orb.exceptions import OrbConfigurationError, OrbError
from django_orb.formatting import safe_link
from django_orb.services import InvoiceLinks, current_links

from .action_context import ActionContext
from .outcomes import explain

#: By the end of their address.
NAMES = {"portal": "hosted_invoice_url", "pdf": "invoice_pdf"}


def respond(call: ActionContext, document: str) -> HttpResponse | None:
    """Redirect to the document. If there is none, say why and return None."""
    invoice = call.invoices[0]
    try:
        links = current_links(invoice)
    except (OrbError, OrbConfigurationError) as err:
        # The old link may still do.
        call.say(messages.WARNING, explain(err), invoice)
        links = InvoiceLinks(
            safe_link(invoice.hosted_invoice_url), safe_link(invoice.invoice_pdf)
        )
    link = getattr(links, NAMES[document])
    if link:
        return HttpResponseRedirect(link)
    call.say(
        messages.WARNING, _("Orb does not offer this page for this invoice."), invoice
    )
    return None
