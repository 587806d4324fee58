"""
Tell projects what has happened, after it was committed.

Connect receivers in `AppConfig.ready`, so that every process has them. Those of
invoices and of `webhook_received` run inside the transaction that records that they
were called: what they do in the same database happens exactly once. Leave slow work
to a task.
"""

from __future__ import annotations

from django.dispatch import Signal

#: sender=Invoice, invoice, change_id (a UUID), previous_status ("" here), status,
#: changed_fields (empty here), origin ("sync", "fetch", "webhook", "operation"),
#: origin_id (of the run, event or operation, or "")
invoice_created = Signal()

#: sender=Invoice, the same; `changed_fields` names them as Orb's JSON does, and
#: "missing_since" if Orb no longer knows the invoice, or knows it again
invoice_updated = Signal()

#: sender=Invoice, the same; also for a new invoice, whose previous_status is ""
invoice_status_changed = Signal()

#: sender=Invoice, invoice, days (the number of `OVERDUE_DAYS` that it has reached),
#: change_id; once for each, as long as it is still overdue
invoice_overdue = Signal()

#: sender=SyncRun, run; whatever its `state` is
sync_finished = Signal()

#: sender=WebhookEvent, event; of any type, once it was processed or ignored
webhook_received = Signal()

#: sender=WebhookEvent, event, error; after each attempt that failed
webhook_failed = Signal()
