from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_orb.models.fields import OrbIdField


class WebhookEvent(models.Model):
    """
    A webhook event of Orb, once under its id however often it came.

    The rows are the queue: messages only wake their processing up, and whatever was
    acknowledged stays here until it was processed.
    """

    class State(models.TextChoices):
        RECEIVED = "received", _("Received")
        PROCESSED = "processed", _("Processed")
        FAILED = "failed", _("Failed")
        IGNORED = "ignored", _("Ignored")

    # Not yet in the mirror, whether it is processed again by itself or by a person.
    OPEN = (State.RECEIVED, State.FAILED)

    class Source(models.TextChoices):
        WEBHOOK = "webhook", _("Webhook")
        FEED = "feed", _("List of events")

    # Orb delivers at least once, so its id is what makes an event one
    # (https://docs.withorb.com/guides/integrations-and-exports/webhooks).
    id = OrbIdField(_("id"), primary_key=True)
    type = models.CharField(_("type"), max_length=255)
    state = models.CharField(
        _("state"), max_length=16, choices=State.choices, default=State.RECEIVED
    )
    source = models.CharField(
        _("source"), max_length=16, choices=Source.choices, default=Source.WEBHOOK
    )
    invoice_id = OrbIdField(
        _("invoice"), blank=True, help_text=_("The invoice that it is about, if any.")
    )
    created_at = models.DateTimeField(
        _("created at"),
        null=True,
        blank=True,
        help_text=_("When it happened, by Orb's clock."),
    )
    received_at = models.DateTimeField(
        _("received at"), help_text=_("By this database's clock.")
    )
    body = models.TextField(_("body"), help_text=_("JSON, as Orb sent it."))
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    # How many of the latest attempts killed their worker.
    deaths = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(
        _("next attempt at"),
        null=True,
        blank=True,
        help_text=_("When to process it, unless a worker already has."),
    )
    lease = models.CharField(max_length=32, blank=True)
    lease_expires_at = models.DateTimeField(
        _("lease expires at"), null=True, blank=True
    )
    error = models.TextField(_("error"), blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("webhook event")
        verbose_name_plural = _("webhook events")
        ordering = ["-received_at", "-pk"]
        permissions = [("retry_webhookevent", "Can process failed events again")]
        indexes = [
            models.Index(fields=["-received_at", "-id"], name="orb_event_received"),
            # What `recover` looks for each minute.
            models.Index(fields=["state", "next_attempt_at"], name="orb_event_due"),
            # All events of an invoice are processed together.
            models.Index(fields=["invoice_id", "state"], name="orb_event_invoice"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.pk}"


class WebhookFeed(models.Model):
    """
    How far Orb's list of webhook events was read.

    There is one row, since the first reading of the list.
    """

    is_offered = models.BooleanField(
        help_text=_("Whether the account has a list of events.")
    )
    read_until = models.DateTimeField(
        help_text=_("Everything created before this was read, by Orb's clock.")
    )
    asked_at = models.DateTimeField(help_text=_("When the list was last requested."))
    newest_at = models.DateTimeField(
        null=True, help_text=_("When the newest event that it has shown was created.")
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"Events until {self.read_until:%Y-%m-%d %H:%M}"
