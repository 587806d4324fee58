"""
Whatever Orb sends, nothing raises beyond its own invoice, and every page opens.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any, TypeVar, get_type_hints

import pytest
import responses
from django.contrib.admin import site
from django.core.cache import cache
from django.db import transaction
from django.template import Context, Template
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from django_orb import exact_json, mirror, services
from django_orb.exceptions import OrbError
from django_orb.mirror import UpcomingInvoice
from django_orb.mirror.mapping import CHILDREN
from django_orb.models import Invoice, InvoiceFailure, SyncRun, WebhookEvent
from django_orb.webhooks import processing

from . import deliveries, payloads
from .admin.conftest import EVERYTHING
from .admin.everything import WITHOUT_ROWS
from .factories import make_staff
from .odd_payloads import Oddity, every_oddity, oddities, write

pytestmark = pytest.mark.proof

SOUND = {"first", "last"}  # their pages are other tests' matter
Test = TypeVar("Test", bound=Callable[..., None])

SAMPLES = ("draft", "issued", "paid", "void")
ID = re.compile(rb"/invoices/([^/?]+)")
BASE = "http://127.0.0.1:9/v1"
TABLE = Template(
    "{% load orb %}{% orb_invoices customer_id=customer_id %}"
    "{% orb_invoices external_customer_id=external_id %}"
)

INVOICES = {
    name: payloads.load(f"invoice_{name}") for name in ("draft", "issued", "void")
}
INVOICES["paid"] = payloads.load_full()
EVENT = deliveries.event_of(INVOICES["paid"], "invoice.issued", id="whk")
FEED = {
    "data": [{"id": "whk", "payload": EVENT}],
    "pagination_metadata": {"has_more": False, "next_cursor": None},
}
PAGE = {**FEED, "data": [INVOICES["paid"], INVOICES["draft"]]}

# An odd invoice: the name of a sample and what is odd in it.
an_odd_invoice = st.sampled_from(SAMPLES).flatmap(
    lambda name: st.tuples(st.just(name), oddities(INVOICES[name]))
)
some_odd_invoices = st.lists(an_odd_invoice, min_size=1, max_size=4)


def examples(count: int) -> Callable[[Test], Test]:
    decorate: Callable[[Test], Test] = settings(
        max_examples=count, suppress_health_check=list(HealthCheck)
    )
    return decorate


@pytest.fixture(autouse=True)
def _no_waiting(waits: list[float]) -> None:
    """A run is patient with a page that is odd itself."""


def sound(invoice_id: str) -> dict[str, Any]:
    return {**payloads.load("invoice_paid"), "id": invoice_id}


def odd(invoice_id: str, sample: str, what: Sequence[Oddity]) -> str:
    return write({**INVOICES[sample], "id": invoice_id}, what)


def listed(*items: str) -> str:
    metadata = '{"has_more": false, "next_cursor": null}'
    return f'{{"data": [{", ".join(items)}], "pagination_metadata": {metadata}}}'


@contextmanager
def orb_answers(
    *, invoices: str = "", single: str = "", feed: str = "", upcoming: str = ""
) -> Iterator[None]:
    """Orb, as far as it is asked here; a single invoice is sound if not said else."""

    def answer(request: Any) -> tuple[int, dict[str, str], str]:
        path = request.path_url.partition("?")[0]
        if path == "/v1/invoices/upcoming":
            return 200, {}, upcoming
        if path.startswith("/v1/invoices/"):
            found = single or write(sound(path.rpartition("/")[2]))
            return 200, {}, found
        if path == "/v1/webhook_events":
            return 200, {}, feed or listed()
        return 200, {}, (invoices or listed()) if path == "/v1/invoices" else "{}"

    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked:
        mocked.add_callback("GET", re.compile(BASE), callback=answer)
        yield


@contextmanager
def undone(alias: str) -> Iterator[None]:
    """One example after another begins with an empty mirror."""
    cache.clear()
    with transaction.atomic(using=alias):
        yield
        transaction.set_rollback(True, using=alias)


def log_in(name: str = "odd") -> Client:
    client = Client()
    client.force_login(make_staff(*EVERYTHING, name=name))
    return client


def assert_every_page_opens(client: Client) -> None:
    """Open what is stored in the admin, and in a project's own page and code."""
    urls = [reverse("admin:index")]
    for model in (m for m in site._registry if m._meta.app_label == "django_orb"):
        name = f"admin:django_orb_{model._meta.model_name}"
        urls.append(reverse(f"{name}_changelist"))
        if model._meta.model_name not in WITHOUT_ROWS:
            pks = model._default_manager.values_list("pk", flat=True)
            for pk in set(pks) - SOUND:
                urls.append(reverse(f"{name}_change", args=[pk]))
                urls.append(reverse(f"{name}_history", args=[pk]))
    for invoice in Invoice.objects.exclude(pk__in=SOUND):
        for view in ("void", "issue", "mark_paid", "pay", "edit", "line_item"):
            urls.append(reverse(f"admin:django_orb_invoice_{view}", args=[invoice.pk]))
        urls.append(
            reverse("admin:django_orb_invoicelineitem_changelist")
            + f"?invoice__id__exact={invoice.pk}"
        )
        used_by_a_product(invoice)
    for url in urls:
        response = client.get(url, follow=True)
        assert response.status_code == 200, url
    Invoice.objects.totals_by_currency()


def used_by_a_product(invoice: Invoice) -> None:
    context = {
        "customer_id": invoice.customer_id,
        "external_id": invoice.external_customer_id,
    }
    assert TABLE.render(Context(context))
    assert invoice.days_overdue >= 0
    noted = Invoice.objects.net_of_credit_notes().get(pk=invoice.pk)
    net: Any = noted
    assert isinstance(net.net_total, Decimal | None)
    assert str([list(getattr(invoice, name).all()) for name in CHILDREN])
    assert isinstance(invoice.tax, Decimal | None)
    for line in invoice.line_items.all():
        assert isinstance(line.tax, Decimal | None)
        assert line.payload["id"] == line.orb_id
        assert isinstance(line.adjustments + line.sub_line_items, list)
    with suppress(OrbError):
        services.current_links(invoice)


def is_kept(text: str) -> bool:
    """Whether it is stored as it came, or recorded as failed."""
    failures = InvoiceFailure.objects.all()
    try:
        value = exact_json.loads(text)
        pk = value["id"] if isinstance(value, dict) else None
    except (ValueError, KeyError):
        return failures.exists()
    if isinstance(pk, str) and not exact_json.why_not_text(pk):
        stored = Invoice.objects.filter(pk=pk).first()
        if stored is not None and stored.payload == value:
            return True
        if failures.filter(pk=pk[:128]).exists():
            return True
    return failures.filter(pk__startswith=mirror.NO_ID).exists()


# Invoices in pages


def check_page(alias: str, odd_invoices: Sequence[Any]) -> None:
    texts = [odd(f"odd{n}", *one) for n, one in enumerate(odd_invoices)]
    page = listed(write(sound("first")), *texts, write(sound("last")))
    with undone(alias), orb_answers(invoices=page):
        run = services.sync_invoices(mode="full")

        assert run.state == SyncRun.State.SUCCEEDED
        for pk in SOUND:
            assert Invoice.objects.get(pk=pk).payload == sound(pk)
        for text in texts:
            assert is_kept(text), text[:3000]
        assert_every_page_opens(log_in())


def check_values(alias: str, odd_invoices: Sequence[Any]) -> None:
    """As values, as the service layer lists them."""
    texts = [odd(f"odd{n}", *one) for n, one in enumerate(odd_invoices)]
    page = listed(write(sound("first")), *texts, write(sound("last")))
    with undone(alias), orb_answers(invoices=page):
        found = [one.pk for one in services.list_invoices()]

        assert set(found) >= SOUND
        assert all(is_kept(text) for text in texts)


@given(odd_invoices=some_odd_invoices)
@example([("draft", [Oddity(("id",), odd)]) for odd in ("null", '"\\ud800"')])
@examples(2)
def test_odd_invoices_fail_alone_or_are_shown(
    any_database: str, odd_invoices: Any
) -> None:
    check_page(any_database, odd_invoices)
    check_values(any_database, odd_invoices)


@pytest.mark.long
@given(odd_invoices=some_odd_invoices)
@examples(150)
def test_many_odd_invoices_fail_alone_or_are_shown(
    any_database: str, odd_invoices: Any
) -> None:
    check_page(any_database, odd_invoices)
    check_values(any_database, odd_invoices)


@pytest.mark.long
@pytest.mark.parametrize("name", ["issued", "paid"])
def test_every_oddity_at_every_key(any_database: str, name: str) -> None:
    every = [(name, [oddity]) for oddity in every_oddity(INVOICES[name])]
    for start in range(0, len(every), 40):
        check_page(any_database, every[start : start + 40])


@given(what=oddities(PAGE))
@examples(6)
def test_an_odd_page_is_mirrored_or_refused_in_words(
    any_database: str, what: Any
) -> None:
    page = write(PAGE, what)
    with undone(any_database), orb_answers(invoices=page), suppress(OrbError):
        list(itertools.islice(services.list_invoices(), 10))


# One by one


@given(name=st.sampled_from(SAMPLES), data=st.data())
@examples(3)
def test_an_odd_answer_is_stored_or_refused_in_words(
    any_database: str, name: str, data: st.DataObject
) -> None:
    text = odd("odd", name, data.draw(oddities(INVOICES[name])))
    with undone(any_database), orb_answers(single=text):
        with suppress(OrbError):
            services.fetch_invoice("odd")
        assert_every_page_opens(log_in())


@given(what=oddities(payloads.load("upcoming")))
@example([Oddity(("invoice_number",), "true")])
@example([Oddity(("customer", "id"), "{}")])
@example([Oddity(("line_items", 0, "id"), "null")])
@example([Oddity(("line_items", 0, "name"), '"\\ud800"')])
@example([Oddity(("line_items", 0, "sub_line_items"), "9" * 5000)])
@examples(6)
def test_an_odd_forecast_is_read_and_shown_or_refused_in_words(
    any_database: str, what: Any
) -> None:
    text = write(payloads.load("upcoming"), what)
    with undone(any_database), orb_answers(invoices=listed(write(sound("inv")))):
        services.sync_invoices(mode="full")
        with orb_answers(upcoming=text):
            with suppress(OrbError):
                assert_types(services.fetch_upcoming_invoice("sub"))
            url = reverse("admin:django_orb_invoice_upcoming", args=["inv"])
            assert log_in().get(url, follow=True).status_code == 200


def assert_types(upcoming: UpcomingInvoice) -> None:
    """The values are of the types that they are declared to be."""
    for value in (upcoming, *upcoming.line_items):
        for name, type_ in get_type_hints(type(value)).items():
            if name not in ("payload", "line_items"):
                assert isinstance(getattr(value, name), type_), name


# Webhooks


@given(what=oddities(EVENT))
@example([Oddity(("invoice", "memo"), '"\\ud800"')])
@example([Oddity(("created_at",), '"0001-01-01T00:00:00+14:00"')])
@examples(3)
def test_an_odd_webhook_is_processed_or_refused(any_database: str, what: Any) -> None:
    body = write({**EVENT, "created_at": deliveries.now().isoformat()}, what).encode()
    with undone(any_database), orb_answers():
        response = deliveries.post(body)

        assert response.status_code in (200, 400)
        for event in WebhookEvent.objects.all():
            processing.process_event(event.pk)
            event.refresh_from_db()
            assert event.state in ("processed", "ignored", "failed")
            mirrored = Invoice.objects.filter(pk=event.invoice_id)
            assert mirrored.exists() == (event.state == "processed")
        assert_every_page_opens(log_in())


@given(what=oddities(FEED))
@examples(3)
def test_an_odd_list_of_events_spares_the_sound_one(
    any_database: str, what: Any
) -> None:
    text = write(FEED, what)
    sound_event = deliveries.event_of(INVOICES["void"], "invoice.issued")
    item = write({"id": sound_event["id"], "payload": sound_event})
    is_list = text.startswith('{"data": [')
    text = text.replace('{"data": [', f'{{"data": [{item}, ', 1).replace(", ]", "]")
    with undone(any_database), orb_answers(feed=text):
        run = services.sync_invoices()

        assert run.state == SyncRun.State.SUCCEEDED
        found = WebhookEvent.objects.filter(pk=sound_event["id"])
        if is_list and "pagination_metadata" not in {one.path[0] for one in what}:
            assert found.get().state == "processed"
        assert_every_page_opens(log_in())
