from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Max, Sum
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_orb.models.fields import OrbIdField

COUNTS = ("pages", "requests", "created", "updated", "unchanged", "failed", "missing")


class SyncRun(models.Model):
    """
    One pass over Orb's invoices.

    The rows are the queue and Celery's messages only wake it, so a run goes on
    where it stopped whatever happened to its workers or to the broker.
    """

    class Kind(models.TextChoices):
        FULL = "full", _("Full")
        INCREMENTAL = "incremental", _("Incremental")
        PARTIAL = "partial", _("Since a date")
        ONE = "one", _("Chosen invoices")

    class State(models.TextChoices):
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    state = models.CharField(
        _("state"), max_length=16, choices=State.choices, default=State.RUNNING
    )
    # Holds the kind while the run is active and NULL after: at most one active
    # run per kind on every database (MariaDB ignores conditional constraints).
    active_kind = models.CharField(max_length=16, null=True, unique=True, blank=True)
    since = models.DateTimeField(_("since"), null=True, blank=True)
    accept_missing = models.BooleanField(_("accept missing"), default=False)
    announces_new = models.BooleanField(
        _("announces new"),
        default=True,
        help_text=_("Whether new invoices that it finds are announced."),
    )
    started_at = models.DateTimeField(_("started at"))
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    pages = models.PositiveIntegerField(_("pages"), default=0)
    requests = models.PositiveIntegerField(_("requests"), default=0)
    created = models.PositiveIntegerField(_("created"), default=0)
    updated = models.PositiveIntegerField(_("updated"), default=0)
    unchanged = models.PositiveIntegerField(_("unchanged"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    missing = models.PositiveIntegerField(_("missing"), default=0)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("sync run")
        verbose_name_plural = _("sync runs")
        ordering = ["-started_at", "-pk"]

    def __str__(self) -> str:
        return gettext("%(kind)s sync %(number)s") % {
            "kind": self.get_kind_display(),
            "number": self.pk,
        }

    @property
    def is_active(self) -> bool:
        return self.state == self.State.RUNNING

    @property
    def invoices(self) -> int:
        """Invoices that Orb showed in this run; one seen twice counts twice."""
        return self.created + self.updated + self.unchanged + self.failed

    def progress(self) -> dict[str, Any]:
        """Return the counts so far, read from the windows, and the last heartbeat."""
        sums = {name: Sum(name, default=0) for name in COUNTS}
        # Where the run was read: a replica may not have the windows yet.
        windows = self.windows.using(self._state.db)
        return windows.aggregate(**sums, heartbeat_at=Max("heartbeat_at"))


class Status(SyncRun):
    """The admin's status page; users who may view runs see it."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("status")
        verbose_name_plural = _("status")


class SyncWindow(models.Model):
    """
    A part of a run that one worker at a time works on, page by page.

    `lease` names who may: a worker whose lease is no longer in the row has lost
    the window and writes nothing. `cursor` and `step` move in the transaction that
    stores the page.
    """

    class Kind(models.TextChoices):
        LIST = "list", _("Pages of the list")
        CHECK = "check", _("Invoices the list did not show")
        FETCH = "fetch", _("Chosen invoices")
        FEED = "feed", _("Events")

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        PENDING = "pending", _("Pending")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    run = models.ForeignKey(SyncRun, on_delete=models.CASCADE, related_name="windows")
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=Kind.choices)
    state = models.CharField(max_length=16, choices=State.choices)
    statuses = models.JSONField(default=list, blank=True)
    invoice_date_gte = models.DateTimeField(null=True, blank=True)
    invoice_date_lt = models.DateTimeField(null=True, blank=True)
    invoice_ids = models.JSONField(default=list, blank=True)
    cursor = models.TextField(blank=True)
    last_invoice_date = models.DateTimeField(null=True, blank=True)
    reopened_from = models.DateTimeField(null=True, blank=True)
    is_exhausted = models.BooleanField(
        default=False, help_text=_("Everything was asked for; doubts may remain.")
    )
    doubtful_ids = models.JSONField(default=list, blank=True)
    step = models.PositiveIntegerField(
        default=0,
        help_text=_("Counts commits, so that a second worker cannot repeat one."),
    )
    # All waiting is a time in the row, never a message that is held back: Redis
    # delivers such a message again after its visibility time-out, and RabbitMQ closes
    # consumers that hold one for long.
    lease = models.CharField(max_length=32, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(null=True, blank=True)
    # Counted before the step, so that a page which kills its worker is noticed.
    attempts = models.PositiveIntegerField(
        default=0, help_text=_("Attempts at this step that did not finish.")
    )
    deferrals = models.PositiveIntegerField(
        default=0, help_text=_("Times in a row that Orb did not answer.")
    )
    page_size = models.PositiveIntegerField(
        default=0,
        help_text="How much to ask for at a time; 0 is as much as is configured.",
    )
    careful_steps = models.PositiveIntegerField(
        default=0,
        help_text="Steps that have to go well before more is asked for again.",
    )
    cursor_mark = models.TextField(
        blank=True, help_text="A cursor that must not come again: see `steps`."
    )
    stalled_pages = models.PositiveIntegerField(
        default=0, help_text="Pages in a row that did not get to earlier dates."
    )
    # See Note [Getting past] in `sync.bad_pages`.
    unreadable_lt = models.DateTimeField(null=True, blank=True)
    readable_lt = models.DateTimeField(null=True, blank=True)
    has_gap = models.BooleanField(
        default=False, help_text="A part of Orb's list was passed over unread."
    )
    error = models.TextField(blank=True)
    note = models.TextField(
        blank=True, help_text="A limitation that the run mentions when it ends."
    )
    pages = models.PositiveIntegerField(default=0)
    requests = models.PositiveIntegerField(default=0)
    created = models.PositiveIntegerField(default=0)
    updated = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    missing = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ("view",)
        ordering = ["run", "position"]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "position"], name="orb_window_position"
            )
        ]
        indexes = [
            models.Index(
                fields=["state", "lease_expires_at"], name="orb_window_recover"
            )
        ]

    def __str__(self) -> str:
        return f"Window {self.position} of run {self.run_id}"

    @property
    def is_known(self) -> bool:
        """Whether this release knows what to do; a newer one may have planned it."""
        return self.kind in self.Kind.values and self.run.kind in SyncRun.Kind.values


class SyncAbsence(models.Model):
    """
    A 404 that a run met. The invoice is marked as missing only if the run succeeds.
    """

    run = models.ForeignKey(SyncRun, on_delete=models.CASCADE, related_name="absences")
    # Not marked at once: the key of another account also gets an honest 404 for each
    # invoice.
    invoice_id = OrbIdField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    supersedes = models.BigIntegerField(
        null=True,
        blank=True,
        help_text=_("The version of the observation that this one replaces."),
    )

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["run", "invoice_id"], name="orb_absence_once_per_run"
            )
        ]

    def __str__(self) -> str:
        return f"{self.invoice_id} absent in run {self.run_id}"
