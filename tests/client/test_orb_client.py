from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
import requests
from orb import Orb

from django_orb import __version__
from django_orb.client.orb_client import OrbClient, next_cursor
from django_orb.client.query import InvoiceFilters
from django_orb.exceptions import (
    OrbAuthenticationError,
    OrbConfigurationError,
    OrbInputError,
    OrbResponseError,
    OrbServerError,
)
from tests import times
from tests.loopback import Answer, loopback

UTC = timezone.utc
PACIFIC = timezone(timedelta(hours=-8))


@pytest.fixture
def server():
    with loopback() as recorded:
        yield recorded


@pytest.fixture
def client(server):
    with OrbClient("test-key", server.base_url) as client:
        yield client


def page(*ids, cursor=None, **metadata):
    return Answer(
        json.dumps(
            {
                "data": [{"id": one} for one in ids],
                "pagination_metadata": {
                    "has_more": cursor is not None,
                    "next_cursor": cursor,
                    **metadata,
                },
            }
        ).encode()
    )


def outline(request):
    """What matters of a request; its query in any order, but byte by byte."""
    parts = urlsplit(request.target)
    names = ("authorization", "accept", "content-type", "content-length")
    return {
        "method": request.method,
        "path": parts.path,
        "query": sorted(parts.query.split("&")),
        "body": json.loads(request.body, parse_float=Decimal) if request.body else None,
        "idempotency-key": request.headers.get("idempotency-key"),
        **{name: request.headers.get(name) for name in names[:3]},
        "has no body": request.headers.get("content-length") in (None, "0"),
    }


FILTERS = {
    "customer_id": "cus 1/é&=",
    "external_customer_id": "a+b@example.org",
    "subscription_id": "sub1",
    "invoice_date_gt": datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC),
    "invoice_date_gte": datetime(2026, 1, 1, tzinfo=UTC),
    "invoice_date_lt": datetime(2026, 2, 1, tzinfo=PACIFIC),
    "invoice_date_lte": datetime(2026, 2, 2, tzinfo=UTC),
    "due_date": date(2026, 1, 4),
    "due_date_gt": date(2026, 1, 5),
    "due_date_lt": date(2026, 1, 6),
    "due_date_window": "7d",
    "date_type": "due_date",
    "amount": "12.50",
    "amount_gt": "1.00",
    "amount_lt": "-2",
    "is_recurring": True,
    "include_zero_quantity_line_items": False,
}
LINE = {
    "invoice_id": "inv1",
    "amount": "12.00",
    "start_date": date(2026, 1, 1),
    "end_date": date(2026, 1, 31),
}
ONE_OFF = {
    "currency": "USD",
    "invoice_date": "2026-01-01",
    "line_items": [
        {
            "item_id": "item1",
            "model_type": "unit",
            "name": "Workshop",
            "quantity": 2,
            "start_date": "2026-01-01",
            "end_date": "2026-01-31",
            "unit_config": {"unit_amount": "100.00"},
        }
    ],
}

SAME_CALLS = {
    "list": (
        lambda ours: next(ours.list_invoices()),
        lambda orb: orb.invoices.list(limit=100),
    ),
    "list with one status": (
        lambda ours: next(ours.list_invoices(status="draft")),
        lambda orb: orb.invoices.list(limit=100, status="draft"),
    ),
    "list with statuses and a cursor": (
        lambda ours: ours.fetch_invoices_page(
            status=["issued", "draft"], limit=5, cursor="b+/=="
        ),
        lambda orb: orb.invoices.list(
            status=["issued", "draft"], limit=5, cursor="b+/=="
        ),
    ),
    "list with every other filter": (
        lambda ours: next(ours.list_invoices(limit=7, **FILTERS)),
        lambda orb: orb.invoices.list(limit=7, **FILTERS),
    ),
    "list by day": (
        lambda ours: next(ours.list_invoices(invoice_date_gte=date(2026, 1, 1))),
        lambda orb: orb.invoices.list(limit=100, invoice_date_gte="2026-01-01"),
    ),
    "fetch": (
        lambda ours: ours.fetch_invoice("inv1"),
        lambda orb: orb.invoices.fetch("inv1"),
    ),
    "fetch upcoming": (
        lambda ours: ours.fetch_upcoming_invoice("sub 1/é"),
        lambda orb: orb.invoices.fetch_upcoming(subscription_id="sub 1/é"),
    ),
    "void": (
        lambda ours: ours.void_invoice("inv 1/..x", idempotency_key="key-1"),
        lambda orb: orb.invoices.void("inv 1/..x", idempotency_key="key-1"),
    ),
    "create a line by name": (
        lambda ours: ours.create_invoice_line_item(
            **LINE, quantity=Decimal("1.5"), name="Ω 😀", idempotency_key="key-2"
        ),
        lambda orb: orb.invoice_line_items.create(
            **LINE, quantity=1.5, name="Ω 😀", idempotency_key="key-2"
        ),
    ),
    "create a line by item": (
        lambda ours: ours.create_invoice_line_item(
            **LINE, quantity=3, item_id="item1", idempotency_key="key-3"
        ),
        lambda orb: orb.invoice_line_items.create(
            **LINE, quantity=3, item_id="item1", idempotency_key="key-3"
        ),
    ),
    "create an invoice": (
        lambda ours: ours.create_invoice(
            **ONE_OFF, customer_id="cus é", net_terms=0, idempotency_key="key-10"
        ),
        lambda orb: orb.invoices.create(
            **ONE_OFF, customer_id="cus é", net_terms=0, idempotency_key="key-10"
        ),
    ),
    "create an invoice with everything": (
        lambda ours: ours.create_invoice(
            **ONE_OFF,
            external_customer_id="crm 1",
            due_date=date(2026, 2, 1),
            auto_collection=False,
            will_auto_issue=True,
            memo="Ω 😀",
            discount={"discount_type": "percentage", "percentage_discount": 0.5},
            metadata={"po": "7"},
            idempotency_key="key-10",
        ),
        lambda orb: orb.invoices.create(
            **ONE_OFF,
            external_customer_id="crm 1",
            due_date=date(2026, 2, 1),
            auto_collection=False,
            will_auto_issue=True,
            memo="Ω 😀",
            discount={"discount_type": "percentage", "percentage_discount": 0.5},
            metadata={"po": "7"},
            idempotency_key="key-10",
        ),
    ),
    "delete a line": (
        lambda ours: ours.delete_invoice_line_item(
            "inv 1/..x", "li 1/é", idempotency_key="key-4"
        ),
        lambda orb: orb.invoices.delete_line_item(
            invoice_id="inv 1/..x", line_item_id="li 1/é", idempotency_key="key-4"
        ),
    ),
    "issue": (
        lambda ours: ours.issue_invoice("inv1", idempotency_key="key-5"),
        lambda orb: orb.invoices.issue("inv1", idempotency_key="key-5"),
    ),
    "issue and wait": (
        lambda ours: ours.issue_invoice(
            "inv1", synchronous=True, idempotency_key="key-5"
        ),
        lambda orb: orb.invoices.issue(
            "inv1", synchronous=True, idempotency_key="key-5"
        ),
    ),
    "mark as paid": (
        lambda ours: ours.mark_invoice_paid(
            "inv1",
            payment_received_date=date(2026, 1, 31),
            external_id="wire é",
            notes="by wire",
            idempotency_key="key-6",
        ),
        lambda orb: orb.invoices.mark_paid(
            "inv1",
            payment_received_date=date(2026, 1, 31),
            external_id="wire é",
            notes="by wire",
            idempotency_key="key-6",
        ),
    ),
    "mark as paid on a day": (
        lambda ours: ours.mark_invoice_paid(
            "inv1", payment_received_date="2026-01-31", idempotency_key="key-6"
        ),
        lambda orb: orb.invoices.mark_paid(
            "inv1", payment_received_date="2026-01-31", idempotency_key="key-6"
        ),
    ),
    "pay": (
        lambda ours: ours.pay_invoice("inv1", idempotency_key="key-7"),
        lambda orb: orb.invoices.pay("inv1", idempotency_key="key-7"),
    ),
    "pay with a token": (
        lambda ours: ours.pay_invoice(
            "inv1", shared_payment_token_id="token", idempotency_key="key-7"
        ),
        lambda orb: orb.invoices.pay(
            "inv1", shared_payment_token_id="token", idempotency_key="key-7"
        ),
    ),
    "update": (
        lambda ours: ours.update_invoice(
            "inv1",
            {"metadata": {"a": "é", "b": None}, "due_date": "2026-02-01"},
            idempotency_key="key-8",
        ),
        lambda orb: orb.invoices.update(
            "inv1",
            metadata={"a": "é", "b": None},
            due_date=date(2026, 2, 1),
            idempotency_key="key-8",
        ),
    ),
    "update to nothing": (
        lambda ours: ours.update_invoice(
            "inv1", {"metadata": None, "net_terms": 0}, idempotency_key="key-8"
        ),
        lambda orb: orb.invoices.update(
            "inv1", metadata=None, net_terms=0, idempotency_key="key-8"
        ),
    ),
    "regenerate the PDF": (
        lambda ours: ours.regenerate_invoice_pdf("inv1", idempotency_key="key-9"),
        lambda orb: orb.invoices.regenerate_invoice_pdf(
            "inv1", idempotency_key="key-9"
        ),
    ),
    "ping": (lambda ours: ours.ping(), lambda orb: orb.top_level.ping()),
}


@pytest.mark.parametrize("call", SAME_CALLS)
def test_requests_are_those_of_orbs_own_sdk(server, client, call):
    ours, theirs = SAME_CALLS[call]
    # An invoice and a page at once, so that every call takes it.
    answer = json.loads(page().body) | {"id": "inv1"}
    server.answers = [Answer(json.dumps(answer).encode())] * 2

    ours(client)
    with Orb(api_key="test-key", base_url=server.base_url, max_retries=0) as orb:
        theirs(orb)

    mine, official = server.requests
    assert outline(mine) == outline(official)


@pytest.mark.parametrize(
    "invoice_id", ["inv1", "inv 1/..x", "a%2Fb", "é", "a:b@c;d=e,f", "?#&+", "..."]
)
def test_ids_are_encoded_as_orbs_own_sdk_does(server, client, invoice_id):
    client.fetch_invoice(invoice_id)
    with Orb(api_key="test-key", base_url=server.base_url, max_retries=0) as orb:
        orb.invoices.fetch(invoice_id)

    mine, official = server.requests
    assert mine.target == official.target


def test_every_filter_of_orbs_own_sdk_is_there():
    from orb.types import InvoiceListParams

    ours = {*InvoiceFilters.__annotations__, "limit", "cursor"}
    assert ours == set(InvoiceListParams.__annotations__)
    assert {*FILTERS, "status", "limit", "cursor"} == ours


def test_the_client_names_itself(server, client):
    client.fetch_invoice("inv1")

    assert server.requests[0].headers["user-agent"] == f"django-orb/{__version__}"


@pytest.mark.parametrize("answer", [{}, {"id": ""}, {"id": 7}])
def test_an_invoice_that_was_made_has_an_id(server, client, answer):
    server.answers = [Answer(json.dumps(answer).encode())]

    with pytest.raises(OrbResponseError, match="has no id"):
        client.create_invoice(**ONE_OFF, customer_id="cus")


def test_without_a_key_of_its_own_a_post_has_none(server, client):
    client.void_invoice("inv1")

    assert "idempotency-key" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("quantity", "written"),
    [
        (Decimal("1.50"), "1.50"),
        (Decimal("0.1"), "0.1"),
        (Decimal("123456789012345678.123456789"), "123456789012345678.123456789"),
        (3, "3"),
    ],
)
def test_a_quantity_is_a_number_with_all_of_its_digits(
    server, client, quantity, written
):
    client.create_invoice_line_item(**LINE, quantity=quantity, name="Support")

    assert f'"quantity":{written},' in server.requests[0].body.decode()


def test_a_line_takes_days_as_text_too(server, client):
    days = {"start_date": "2026-01-01", "end_date": "2026-01-31"}
    client.create_invoice_line_item(**{**LINE, **days}, quantity=1, name="a")
    client.create_invoice_line_item(**LINE, quantity=1, name="a")

    first, second = server.requests
    assert first.body == second.body


def test_answers_keep_their_numbers_exact(server, client):
    server.answers = [Answer(b'{"total": "12.00", "quantity": 1.10}')]

    invoice = client.fetch_invoice("inv1")

    assert invoice == {"total": "12.00", "quantity": Decimal("1.10")}
    assert str(invoice["quantity"]) == "1.10"


def test_pages_are_fetched_when_asked_for_with_the_same_filters(server, client):
    server.answers = [page("a", "b", cursor="c 2"), page("c", cursor="c3"), page("d")]

    pages = client.list_invoices(status=["draft"], limit=2)
    assert server.requests == []
    assert [one["id"] for one in next(pages)["data"]] == ["a", "b"]
    assert len(server.requests) == 1
    assert [one["id"] for page in pages for one in page["data"]] == ["c", "d"]

    assert [urlsplit(request.target).query for request in server.requests] == [
        "limit=2&status%5B%5D=draft",
        "limit=2&status%5B%5D=draft&cursor=c+2",
        "limit=2&status%5B%5D=draft&cursor=c3",
    ]


def test_a_list_begins_at_a_given_cursor(server, client):
    server.answers = [page("z")]

    assert len(list(client.list_invoices(cursor="there"))) == 1
    assert "cursor=there" in server.requests[0].target


@pytest.mark.parametrize(
    "metadata",
    [
        {"has_more": False, "next_cursor": "more"},
        {"has_more": False, "next_cursor": ""},
        {"has_more": False},
        {"has_more": None, "next_cursor": None},
        {"next_cursor": None},
        {},
    ],
)
def test_a_list_ends_where_orb_says_so(metadata):
    assert next_cursor({"data": [], "pagination_metadata": metadata}) is None


def test_a_cursor_alone_means_that_there_is_more():
    metadata = {"next_cursor": "more"}
    assert next_cursor({"data": [], "pagination_metadata": metadata}) == "more"


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"]])
def test_a_repeated_cursor_ends_a_list_with_an_error(server, client, cursors):
    server.answers = [page("x", cursor=cursor) for cursor in cursors]
    pages = client.list_invoices()

    for _ in cursors:
        next(pages)
    with pytest.raises(OrbResponseError, match="same cursor"):
        next(pages)


def test_the_cursor_that_a_list_began_with_counts_as_used(server, client):
    server.answers = [page("x", cursor="a")]
    pages = client.list_invoices(cursor="a")

    next(pages)
    with pytest.raises(OrbResponseError, match="same cursor"):
        next(pages)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"[]", "object and is list"),
        (b"", "object and is nothing"),
        (b"{}", "no list of invoices"),
        (b'{"data": {}}', "no list of invoices"),
        (b'{"data": []}', "no readable next_cursor"),
        (b'{"data": [], "pagination_metadata": []}', "no readable next_cursor"),
        (
            b'{"data": [], "pagination_metadata": {"next_cursor": 7}}',
            "no readable next_cursor",
        ),
        (
            b'{"data": [], "pagination_metadata": {"has_more": true}}',
            "has more, but does not say where",
        ),
    ],
)
def test_what_is_no_page_is_an_error_in_words(server, client, body, complaint):
    server.answers = [Answer(body)]

    with pytest.raises(OrbResponseError, match=complaint):
        next(client.list_invoices())


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"7", b"null", b""])
def test_an_answer_that_is_no_object_is_an_error_in_words(server, client, body):
    for call in (
        lambda: client.fetch_invoice("inv1"),
        lambda: client.fetch_upcoming_invoice("sub1"),
        lambda: client.create_invoice_line_item(**LINE, quantity=1, name="a"),
    ):
        server.answers = [Answer(body)]
        with pytest.raises(OrbResponseError, match="should be a JSON object"):
            call()


@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_void_succeeds_with_any_2xx(server, client, status):
    server.answers = [Answer(b'{"status": "void"}', status)]

    assert client.void_invoice("inv1") == {"status": "void"}


def test_a_void_succeeds_without_a_body(server, client):
    server.answers = [Answer(b"", 204)]

    assert client.void_invoice("inv1") == {}


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"invoice_date_gte": datetime(2026, 1, 1)}, "invoice_date_gte"),  # noqa: DTZ001
        ({"status": []}, "status"),
        ({"amount": 1.5}, "amount"),
        ({"amount_gt": Decimal("NaN")}, "amount_gt"),
        ({"customer_id": 7}, "customer_id"),
    ],
)
def test_an_ambiguous_filter_is_refused_at_once(server, client, filters, field):
    for call in (client.list_invoices, client.fetch_invoices_page):
        with pytest.raises(OrbInputError) as caught:
            call(**filters)
        assert caught.value.field == field
    assert server.requests == []


def test_an_unknown_filter_is_a_programming_error(client):
    with pytest.raises(TypeError, match="unknown filters: invoice_date"):
        client.list_invoices(invoice_date=date(2026, 1, 1))


def test_filters_of_none_are_not_sent(server, client):
    server.answers = [page()]
    client.fetch_invoices_page(status=None, customer_id=None, is_recurring=None)

    assert urlsplit(server.requests[0].target).query == "limit=100"


def test_a_decimal_filter_is_written_without_an_exponent(server, client):
    server.answers = [page()]
    client.fetch_invoices_page(amount_gt=Decimal("1E+3"))

    assert "amount%5Bgt%5D=1000" in server.requests[0].target


@pytest.mark.parametrize("invoice_id", ["", ".", ".."])
def test_an_id_that_would_change_the_path_is_refused(server, client, invoice_id):
    for call in (client.fetch_invoice, client.void_invoice):
        with pytest.raises(OrbInputError) as caught:
            call(invoice_id)
        assert caught.value.field == "invoice_id"
    assert server.requests == []


def test_a_moment_is_not_a_day(server, client):
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(OrbInputError) as caught:
        client.create_invoice_line_item(
            **{**LINE, "end_date": moment}, quantity=1, name="a"
        )
    assert caught.value.field == "end_date"
    assert server.requests == []


@pytest.mark.parametrize("key", ["", " a", "a ", "a\nb", "a\r\nX: y", "é", "k" * 65])
def test_an_idempotency_key_that_orb_cannot_take_is_refused(server, client, key):
    with pytest.raises(OrbInputError) as caught:
        client.void_invoice("inv1", idempotency_key=key)
    assert caught.value.field == "idempotency_key"
    assert server.requests == []


@pytest.mark.parametrize("key", ["k" * 64, "a b", "!~"])
def test_other_idempotency_keys_are_sent_as_they_are(server, client, key):
    client.void_invoice("inv1", idempotency_key=key)

    assert server.requests[0].headers["idempotency-key"] == key


@pytest.mark.parametrize("key", ["", "sk\n1", "sk1 ", "ské", "sk\0", None, 7])
def test_a_key_that_is_none_is_refused_without_being_quoted(key):
    with pytest.raises(OrbConfigurationError) as caught:
        OrbClient(key)

    text = str(caught.value)
    assert text.startswith("The API key for Orb ")
    assert not key or str(key) not in text


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.withorb.com/v1",
        "ftp://api.withorb.com",
        "https://",
        "https://api.withorb.com:port/v1",
        "https://api.withorb.com/v1 ",
        "https://user:secret@api.withorb.com/v1",
        "https://api.withorb.com/v1?a=b",
        "postgres://user:secret@db",
        None,
    ],
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(OrbConfigurationError, match="The base URL for Orb") as caught:
        OrbClient("test-key", url)
    assert "secret" not in str(caught.value)


def test_a_slash_at_the_end_of_the_address_does_not_matter(server):
    with OrbClient("test-key", f"{server.base_url}/") as client:
        client.ping()

    assert server.requests[0].target == "/v1/ping"


def test_settings_make_a_client(server, settings):
    settings.DJANGO_ORB = {
        "API_KEY": "from-settings",
        "BASE_URL": server.base_url,
        "TIMEOUT_SECONDS": 3,
    }
    with OrbClient.from_settings(retries=0) as client:
        client.ping()

    assert client.worst_case_seconds == 3 + 2 * 3
    assert server.requests[0].headers["authorization"] == "Bearer from-settings"


def test_settings_without_a_key_say_what_to_set(settings, monkeypatch):
    monkeypatch.delenv("ORB_API_KEY", raising=False)
    settings.DJANGO_ORB = {}

    with pytest.raises(OrbConfigurationError, match=r"DJANGO_ORB.*ORB_API_KEY"):
        OrbClient.from_settings()


def test_a_client_closes_its_own_session_only(server, monkeypatch):
    closed = []
    monkeypatch.setattr(requests.Session, "close", lambda self: closed.append(self))
    session = requests.Session()

    with OrbClient("test-key", server.base_url, session=session):
        pass
    assert closed == []
    with OrbClient("test-key", server.base_url):
        pass
    assert len(closed) == 1


def test_a_session_of_ones_own_is_used_and_not_changed(server):
    with requests.Session() as session:
        before = dict(session.headers)
        session.headers["X-Team"] = "billing"
        with OrbClient("test-key", server.base_url, session=session) as client:
            client.ping()

        assert server.requests[0].headers["x-team"] == "billing"
        assert dict(session.headers) == {**before, "X-Team": "billing"}


def test_the_worst_case_counts_every_try_and_pause():
    client = OrbClient("test-key", timeout_seconds=30, retries=2)

    assert client.worst_case_seconds == 3 * (5 + 2 * 30) + 2 * 60


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.update_invoice("inv1", {}, idempotency_key="key"),
        lambda client: client.delete_invoice_line_item("inv1", "li1"),
        lambda client: client.issue_invoice("inv1"),
    ],
    ids=["put", "delete", "post without a key"],
)
def test_what_no_key_protects_is_sent_once(server, client, call):
    server.answers = [Answer(b"", status=503)]

    with pytest.raises(OrbServerError):
        call(client)

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "follows_doubt"), [(503, True), (409, True), (429, False)]
)
def test_an_error_says_if_an_earlier_try_may_have_been_done(
    server, client, monkeypatch, status, follows_doubt
):
    times.rule(monkeypatch, sleep=lambda seconds: None)
    server.answers = [Answer(b"", status=status), Answer(b"", status=401)]

    with pytest.raises(OrbAuthenticationError) as caught:
        client.void_invoice("inv1", idempotency_key="key")

    assert caught.value.follows_doubt is follows_doubt
