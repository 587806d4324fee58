"""Addresses of the admin's pages: for its templates, and for its code."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


def address_of(site: str, page: str, *arguments: Any) -> str:
    """
    Return the address of a page on this admin site; "" if the site does not have it.

    A project need not register every model: what would be a link is a text then.
    """
    try:
        return reverse(f"admin:django_orb_{page}", args=arguments, current_app=site)
    except NoReverseMatch:
        return ""


def linked(url: str, text: Any) -> SafeString:
    """Return a link, or the text alone if there is no page to lead to."""
    return format_html('<a href="{}">{}</a>' if url else "{1}", url, text)


@register.simple_tag(takes_context=True)
def orb_page(context: Any, page: str, *arguments: Any) -> str:
    """Return a page's address, or "": `{% orb_page "syncrun_changelist" as url %}`."""
    request = context.get("request")
    site = getattr(request, "current_app", None)
    if site is None and request is not None and request.resolver_match:
        site = request.resolver_match.namespace
    return address_of(site or "", page, *arguments)


@register.simple_tag(takes_context=True)
def orb_link(context: Any, text: Any, page: str, *arguments: Any) -> SafeString:
    """Link a text: `{% orb_link row.number "invoice_change" row.pk|admin_urlquote %}`."""
    return linked(orb_page(context, page, *arguments), text)
