"""The bodies of POST /invoices and PUT /invoices/{id}."""

from __future__ import annotations

from .account import Account, Payload, Terms
from .bodies import Body
from .calendars import DAY, shown, zone
from .customers import Customer
from .lines import Discount
from .new_line import parse_one_off_line
from .problems import invalid, refused, unknown
from .rows import Row


class NewInvoice:
    """The body of POST /invoices."""

    def __init__(self, body: Body, account: Account) -> None:
        self._body = body
        self.customer = self._find_customer(account)
        self.date = self._date(account.moment())
        discount = _discount(body)
        self.lines = [
            parse_one_off_line(line).discounted_by(_share(discount, position))
            for position, line in enumerate(body.objects("line_items"))
        ]
        self.terms = _terms(body, self.customer)
        self.changes = self._changes(discount)
        if body.text("currency") not in {self.customer.currency, ""}:
            body.wrong("currency", f"the customer's is {self.customer.currency}")

    def _find_customer(self, account: Account) -> Customer:
        body = self._body
        by_id = body.optional_text("customer_id")
        by_external = body.optional_text("external_customer_id")
        if (by_id is None) == (by_external is None):
            raise invalid(
                *body.errors, "customer_id: one of it and external_customer_id"
            )
        if by_external is not None:
            by_id = next(iter(account.customers_with("external_id", by_external)), None)
        customer = account.customers.get(by_id or "")
        if customer is None:
            raise unknown("Customer", by_external or by_id or "")
        return customer

    def _date(self, now: int) -> int:
        moment = self._body.moment("invoice_date", zone(self.customer.region.time_zone))
        date = int(moment.timestamp())
        # https://docs.withorb.com/api-reference/invoice/create-one-off-invoice
        if date > now + 366 * DAY:
            self._body.wrong("invoice_date", "more than one year in the future")
        return date

    def _changes(self, discount: Discount | None) -> Payload:
        body = self._body
        auto = body.flag("will_auto_issue", False)
        enabled = body.flag("auto_collection", self.customer.collection == "auto")
        metadata = body.metadata() or {}
        discounts = [discount.payload([], self.customer.currency)] if discount else []
        changes: Payload = {
            "will_auto_issue": auto,
            "scheduled_issue_at": shown(self.date) if auto else None,
            "eligible_to_issue_at": shown(self.date),
            "metadata": {k: v for k, v in metadata.items() if v is not None},
            "auto_collection": _NO_ATTEMPTS | {"enabled": enabled},
            "discount": discounts[0] if discounts else None,
            "discounts": discounts,
        }
        if body.names("memo"):
            changes["memo"] = body.optional_text("memo")
        return changes


_NO_ATTEMPTS = {
    "enabled": False,
    "next_attempt_at": None,
    "previously_attempted_at": None,
    "num_attempts": 0,
}


def _discount(body: Body) -> Discount | None:
    """Read the discount. Own choice: only percentages and amounts are accepted."""
    given = body.optional_object("discount")
    if given is None:
        return None
    kind = given.text("discount_type")
    if kind == "percentage":
        percentage = given.number("percentage_discount")
        reason = given.optional_text("reason") or ""
        return Discount(reason, percentage=percentage, invoice_level=True)
    if kind == "amount":
        amount = given.amount("amount_discount")
        reason = given.optional_text("reason") or ""
        return Discount(reason, amount=amount, invoice_level=True)
    given.wrong("discount_type", "the sandbox knows percentage and amount")
    return None


def _share(discount: Discount | None, position: int) -> Discount | None:
    # Own choice: a fixed amount is taken off the first line.
    return discount if position == 0 or (discount and discount.percentage) else None


def _terms(body: Body, customer: Customer) -> Terms:
    net_terms = body.optional_count("net_terms")
    due = None
    if body.given("due_date"):
        moment = body.moment("due_date", zone(customer.region.time_zone))
        due = int(moment.timestamp())
    if net_terms is not None and due is not None:
        body.wrong("due_date", "net_terms or due_date, not both")
    return Terms(net_terms, due)


def metadata_change(payload: Payload, body: Body) -> Payload:
    """Merge the given metadata: a null value removes its key, a bare null all keys."""
    if not body.names("metadata"):
        return {}
    given = body.metadata()
    if given is None:
        return {"metadata": {}}
    merged = payload["metadata"] | given
    return {"metadata": {k: v for k, v in merged.items() if v is not None}}


class DraftChange:
    """The fields of PUT /invoices/{id} that only drafts accept."""

    def __init__(
        self, row: Row, payload: Payload, body: Body, terms: dict[str, Terms]
    ) -> None:
        self._row = row
        self._payload = payload
        self._body = body
        self._terms = terms

    def add_to(self, changes: Payload) -> None:
        body = self._body
        names = ("net_terms", "due_date", "invoice_date", "auto_collection")
        given = [name for name in names if body.given(name)]
        if given and self._payload["status"] != "draft":
            raise refused(f"Only a draft's {', '.join(given)} can be changed.")
        if body.given("net_terms") or body.given("due_date"):
            self._terms[self._row.id] = _terms(body, self._row.customer)
        if body.given("auto_collection"):
            enabled = body.flag("auto_collection", False)
            collection = self._payload["auto_collection"] | {"enabled": enabled}
            changes["auto_collection"] = collection
        if body.given("invoice_date"):
            changes.update(self._moved())

    def _moved(self) -> Payload:
        if self._row.source != "one_off":
            raise refused("Only a one-off draft's invoice_date can be changed.")
        zone_ = zone(self._row.customer.region.time_zone)
        date = shown(int(self._body.moment("invoice_date", zone_).timestamp()))
        auto = self._payload["will_auto_issue"]
        return {
            "invoice_date": date,
            "eligible_to_issue_at": date,
            "scheduled_issue_at": date if auto else None,
        }
