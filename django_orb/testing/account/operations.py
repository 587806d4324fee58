"""Operations of clients and of Orb itself, as far as the invoice's status allows."""

from __future__ import annotations

from datetime import datetime, timezone

from . import lifecycle
from .account import Account, Payload
from .bills import BillKey, item_id
from .bodies import reading
from .calendars import parsed, shown
from .customers import Customer
from .invoice_bodies import DraftChange, NewInvoice, metadata_change
from .new_line import NewLine, parse_line_item
from .problems import refused, unknown
from .rows import Row
from .templates import dumps

FINAL = ("issued", "paid", "synced", "void")


class Operations:
    def __init__(self, account: Account) -> None:
        self._account = account

    # Lines

    def create_line_item(self, fields: Payload) -> Payload:
        invoice_id, new = parse_line_item(fields)
        with self._account.opened():
            row, payload = self._demand(invoice_id, "draft", to="get another line item")
            line = self.line(new, row)
            self._edit(row, payload, {"line_items": [*payload["line_items"], line]})
            return line

    def delete_line_item(self, invoice_id: str, line_item_id: str) -> None:
        with self._account.opened():
            row, payload = self._demand(invoice_id, "draft", to="lose a line item")
            kept = [li for li in payload["line_items"] if li["id"] != line_item_id]
            gone = [li for li in payload["line_items"] if li["id"] == line_item_id]
            if not gone:
                raise unknown("InvoiceLineItem", line_item_id)
            if gone[0]["price"]["cadence"] != "one_time":
                raise refused("Only one-off line items can be deleted.")
            self._edit(row, payload, {"line_items": kept})

    def _edit(self, row: Row, payload: Payload, changes: Payload) -> Payload:
        """Change a draft, and update its sums."""
        previous = {name: payload[name] for name in changes}
        edited = lifecycle.with_totals(payload | changes)
        return self._account.write(row, edited, "edited", previous_attributes=previous)

    def line(self, new: NewLine, row: Row) -> Payload:
        account = self._account
        item = self._item(new)
        return new.payload(row.customer, item, account.new_id("line"), account.moment())

    def _item(self, new: NewLine) -> tuple[str, str]:
        """
        Return the item's id and name: like Orb, find it by name, or create it.

        Source: https://docs.withorb.com/api-reference/invoice/create-invoice-line-item
        """
        items = self._account.items
        if new.item_id is not None:
            if new.item_id not in items:
                raise unknown("Item", new.item_id)
            return new.item_id, items[new.item_id]
        name = new.name or ""
        found = item_id(self._account.seed, name)
        items[found] = name
        return found, name

    # Statuses

    def void(self, invoice_id: str) -> Payload:
        account = self._account
        with account.opened():
            row, payload = self._demand(invoice_id, "issued", to="be voided")
            change = lifecycle.void(payload, account.balance(row), account.moment())
            return account.apply(row, change, "manually_marked_as_void")

    def issue(self, invoice_id: str, fields: Payload) -> Payload:
        """Issue a draft. Own choice: even if asynchronous, before the answer."""
        with reading(fields) as body:
            synchronous = body.flag("synchronous", False)
        with self._account.opened():
            row, payload = self._demand(invoice_id, "draft", to="be issued")
            if payload["will_auto_issue"]:
                raise refused("The invoice will be issued automatically.")
            eligible = parsed(payload["eligible_to_issue_at"])
            if eligible is None or eligible > self._account.moment():
                raise refused("The invoice is not eligible to be issued yet.")
            if synchronous and _has_usage(payload):
                raise refused("An invoice with usage fees is issued asynchronously.")
            return self._account.issue(row, payload, self._account.moment())

    def issue_anyway(self, invoice_id: str) -> Payload:
        with self._account.opened():
            row, payload = self._demand(invoice_id, "draft", to="be issued")
            return self._account.issue(row, payload, self._account.moment())

    def mark_paid(self, invoice_id: str, fields: Payload) -> Payload:
        account = self._account
        with reading(fields) as body:
            day = body.day("payment_received_date")
            facts = {
                "payment_received_date": day.isoformat(),
                "external_id": body.optional_text("external_id"),
                "notes": body.optional_text("notes"),
            }
        with account.opened():
            row, payload = self._demand(
                invoice_id, "issued", "synced", to="be marked as paid"
            )
            received = datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
            paid = lifecycle.mark_paid(
                payload, account.moment(), int(received.timestamp())
            )
            return account.write(row, paid, "manually_marked_as_paid", **facts)

    def mark_paid_today(self, invoice_id: str) -> Payload:
        today = self._account.clock.now().date().isoformat()
        return self.mark_paid(invoice_id, {"payment_received_date": today})

    def pay(self, invoice_id: str, fields: Payload) -> Payload:
        """Pay an invoice. Own choice: every customer has a working payment method."""
        with reading(fields) as body:
            body.optional_text("shared_payment_token_id")
        return self.attempt_payment(invoice_id, succeeds=True)

    def attempt_payment(self, invoice_id: str, *, succeeds: bool) -> Payload:
        account = self._account
        with account.opened():
            row, payload = self._demand(invoice_id, "issued", to="be paid")
            tried = lifecycle.attempt_payment(payload, account.moment(), succeeds)
            event = "payment_succeeded" if succeeds else "payment_failed"
            return account.write(row, tried, event, **lifecycle.provider_facts(tried))

    def undo_mark_paid(self, invoice_id: str) -> Payload:
        with self._account.opened():
            row, payload = self._demand(invoice_id, "paid", to="be unpaid")
            unpaid = lifecycle.undo_mark_paid(payload)
            return self._account.write(row, unpaid, "undo_mark_as_paid")

    def sync(self, invoice_id: str) -> Payload:
        with self._account.opened():
            row, payload = self._demand(invoice_id, "issued", to="be synced")
            synced = payload | {"status": "synced"}
            return self._account.write(row, synced, "sync_succeeded")

    # Failures, whose reasons only events tell

    def fail_issue(self, invoice_id: str, reason: str) -> Payload:
        with self._account.opened():
            row, payload = self._demand(invoice_id, "draft", to="fail to be issued")
            failed = payload | {"issue_failed_at": shown(self._account.moment())}
            return self._account.write(row, failed, "issue_failed", reason=reason)

    def fail_sync(self, invoice_id: str) -> Payload:
        with self._account.opened():
            row, payload = self._demand(invoice_id, "issued", to="fail to be synced")
            failed = payload | {"sync_failed_at": shown(self._account.moment())}
            facts = {"payment_provider": "netsuite", "payment_provider_id": None}
            return self._account.write(row, failed, "sync_failed", **facts)

    def sync_accounting(
        self, invoice_id: str, connection_type: str, failure_reason: str
    ) -> Payload:
        """Sync to accounting, which changes nothing in the invoice; "" if it succeeds."""
        facts = {"connection_type": connection_type}
        with self._account.opened():
            row, payload = self._demand(invoice_id, *FINAL, to="be in the books")
            if failure_reason:
                facts["failure_reason"] = failure_reason
            event = f"accounting_sync_{'failed' if failure_reason else 'succeeded'}"
            return self._account.write(row, payload, event, **facts)

    def regenerate(self, invoice_id: str, document: str) -> Payload:
        """Give the PDF of the "invoice" or of its "receipt" a new link."""
        statuses = FINAL if document == "invoice" else ("paid",)
        with self._account.opened():
            row, payload = self._demand(invoice_id, *statuses, to="have a new PDF")
            link = f"?version={self._account.new_id('pdf')}"
            if document == "invoice":
                changes = {"invoice_pdf": payload["invoice_pdf"].split("?")[0] + link}
            else:
                attempts = [_with_receipt(a, link) for a in payload["payment_attempts"]]
                changes = {"payment_attempts": attempts}
            return self._account.write(row, payload | changes)

    # Whole invoices

    def create_invoice(self, fields: Payload) -> Payload:
        account = self._account
        with account.opened(), reading(fields) as body:
            new = NewInvoice(body, account)
            if body.errors:
                return {}
            row = self.blank(new.customer, new.date)
            lines = [self.line(line, row) for line in new.lines]
            payload = account.read(row) | new.changes | {"line_items": lines}
            account.terms[row.id] = new.terms
            return self._begin(row, lifecycle.with_totals(payload))

    def _begin(self, row: Row, payload: Payload) -> Payload:
        """Add a new draft, and issue it if its date has already come."""
        account = self._account
        row.become(payload, dumps(payload))
        account.add(row)
        now = account.moment()
        if payload["will_auto_issue"] and row.date <= now:
            return account.issue(row, payload, now)
        return payload

    def update_invoice(self, invoice_id: str, fields: Payload) -> Payload:
        account = self._account
        with account.opened(), reading(fields) as body:
            row = account.row(invoice_id)
            payload = account.current(row)
            changes = metadata_change(payload, body)
            DraftChange(row, payload, body, account.terms).add_to(changes)
            if body.errors:
                return {}
            event = "edited" if payload["status"] == "draft" else ""
            previous = {name: payload[name] for name in changes}
            facts = {"previous_attributes": previous} if event else {}
            return account.write(row, payload | changes, event, **facts)

    def update_anyhow(self, invoice_id: str, changes: Payload) -> Payload:
        """Set fields to the given values, even against Orb's rules."""
        with self._account.opened():
            row = self._account.row(invoice_id)
            payload = self._account.current(row)
            missing = changes.keys() - payload.keys()
            if missing:
                raise KeyError(f"an invoice has no {', '.join(sorted(missing))}")
            return self._account.write(row, payload | changes)

    def delete_draft(self, invoice_id: str) -> None:
        with self._account.opened():
            row, _ = self._demand(invoice_id, "draft", to="be deleted")
            self._account.remove(row)

    def delete(self, invoice_id: str) -> None:
        with self._account.opened():
            self._account.remove(self._account.row(invoice_id))

    def blank(self, customer: Customer, date: int) -> Row:
        return Row(
            id=self._account.new_id("invoice"),
            number=self._account.new_number(),
            date=date,
            due=None,
            status="draft",
            source="one_off",
            customer=customer,
            bill=BillKey("service:0", customer.currency, "", "", 0),
            period=0,
            created=self._account.moment(),
        )

    def _demand(self, invoice_id: str, *statuses: str, to: str) -> tuple[Row, Payload]:
        # Own choice of type and words: Orb does not document its own for this case.
        row = self._account.row(invoice_id)
        payload = self._account.current(row)
        if payload["status"] not in statuses:
            raise refused(
                f"Invoice {invoice_id} is {payload['status']}; it must be "
                f"{' or '.join(statuses)} to {to}."
            )
        return row, payload


def _has_usage(payload: Payload) -> bool:
    prices = (line["price"] for line in payload["line_items"])
    return any(price["price_type"] == "usage_price" for price in prices)


def _with_receipt(attempt: Payload, link: str) -> Payload:
    receipt = attempt["receipt_pdf"]
    return attempt | {"receipt_pdf": receipt.split("?")[0] + link if receipt else None}
