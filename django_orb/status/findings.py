"""Draw findings from the facts: a verdict on each subject, and the next step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext

from django_orb.client import OrbClient
from django_orb.conf import get_settings
from django_orb.exceptions import OrbConfigurationError
from django_orb.formatting import ago
from django_orb.models import SyncRun

from .facts import Backlog, Facts
from .occurrences import FULL, INCREMENTAL, PRUNE, RECOVER, REFUSED, REFUSED_UNSIGNED
from .schedule import ScheduledTask, read_schedule

# After how long something is a warning, and after how long it is failing.
MIRROR_AGES = (timedelta(hours=2), timedelta(hours=6))
BACKLOG_AGES = (timedelta(minutes=10), timedelta(hours=1))
LATENESS = (timedelta(minutes=5), timedelta(minutes=15))
# Full runs may be scheduled once a week; a day is added.
FULL_AGE = timedelta(days=8)
# A worker that works on a run shows activity more often than this.
SILENCE = timedelta(minutes=15)
# How much newer than the last webhook an event may be that only Orb's list has.
FEED_AHEAD = timedelta(hours=1)


class Verdict(str, Enum):
    OK = "ok"
    WARNING = "warning"
    FAILING = "failing"


_ORDER = list(Verdict)


def worst(*verdicts: Verdict) -> Verdict:
    """Return the worst verdict, or OK if there are none."""
    return max(verdicts, key=_ORDER.index, default=Verdict.OK)


@dataclass(frozen=True)
class Finding:
    """
    A verdict on one subject, in the language that is active.

    `name` is stable. `details` may quote Orb or an error; the other texts never do.
    """

    name: str
    title: str
    verdict: Verdict
    summary: str
    next_step: str = ""
    details: tuple[str, ...] = ()


def judge(facts: Facts) -> Iterator[Finding]:
    """Judge what was read; no statement and no request."""
    yield judge_account(facts)
    yield _judge_mirror(facts)
    yield _judge_runs(facts)
    yield _judge_schedule(facts)
    yield _judge_webhooks(facts)
    yield _judge_backlog(facts)
    yield _judge_attention(facts)


def judge_account(facts: Facts) -> Finding:
    """Judge whether there is a key, and whether it is the one that was used before."""
    title = gettext("Key and account")
    try:
        with OrbClient.from_settings() as client:
            fingerprint = client.fingerprint
    except OrbConfigurationError as err:
        return Finding(
            "account",
            title,
            Verdict.FAILING,
            gettext("The settings are not valid."),
            gettext("Run manage.py check, and correct DJANGO_ORB."),
            (str(err),),
        )
    if facts.account_confirmed_at is None:
        return Finding(
            "account",
            title,
            Verdict.WARNING,
            gettext("The key has not been used yet."),
            gettext("Ask Orb now, or start the first sync."),
        )
    # A warning only: it may be a new key of the same account, which Orb alone knows.
    if fingerprint != facts.fingerprint:
        return Finding(
            "account",
            title,
            Verdict.WARNING,
            gettext("The key differs from the one that was last used."),
            gettext("Ask Orb now, to see whether it belongs to the same account."),
        )
    return Finding(
        "account",
        title,
        Verdict.OK,
        gettext("The key is the one that Orb last accepted. Orb was not asked now."),
    )


def _judge_mirror(facts: Facts) -> Finding:
    title = gettext("Mirror")
    if facts.runs_error:
        words = gettext("It is not known when it was last brought up to date with Orb.")
        step = gettext("See below why the sync runs cannot be read.")
        return Finding("mirror", title, Verdict.FAILING, words, step)
    full = facts.runs.get(SyncRun.Kind.FULL.value)
    full_at = full.succeeded_at if full else None
    if facts.succeeded_at is None:
        return Finding(
            "mirror",
            title,
            Verdict.FAILING,
            gettext("It has not been brought up to date with Orb yet."),
            gettext("Run manage.py orb_sync_invoices --mode full."),
        )
    age = facts.now - facts.succeeded_at
    words = gettext("Last brought up to date with Orb %(ago)s.") % {
        "ago": ago(facts.succeeded_at)
    }
    verdict = _by_age(age, MIRROR_AGES)
    if verdict is not Verdict.OK:
        step = gettext("See below why runs fail or do not start.")
        return Finding("mirror", title, verdict, words, step)
    if full_at is None or facts.now - full_at > FULL_AGE:
        words = " ".join(
            [words, gettext("No full run has succeeded for more than a week.")]
        )
        step = gettext(
            "Run manage.py orb_sync_invoices --mode full: only that finds invoices "
            "deleted in Orb."
        )
        return Finding("mirror", title, Verdict.WARNING, words, step)
    return Finding("mirror", title, Verdict.OK, words)


def _judge_runs(facts: Facts) -> Finding:
    title = gettext("Sync runs")
    if facts.runs_error:
        return Finding(
            "runs",
            title,
            Verdict.FAILING,
            gettext("They cannot be read."),
            gettext("Run manage.py migrate, and check the mirror's database."),
            (facts.runs_error,),
        )
    still = [run for run in facts.active_runs if facts.now - run.seen_at > SILENCE]
    errors = tuple(run.error for run in facts.active_runs if run.error)
    if still:
        oldest = min(still, key=lambda run: run.seen_at)
        words = gettext("Run %(number)s has stalled; its last activity was %(ago)s.")
        return Finding(
            "runs",
            title,
            Verdict.FAILING,
            words % {"number": oldest.id, "ago": ago(oldest.seen_at)},
            gettext("Start a worker, or run orb_sync_invoices --in-process."),
            errors,
        )
    failed = [
        run for run in facts.runs.values() if run.newest_state == SyncRun.State.FAILED
    ]
    if failed:
        return Finding(
            "runs",
            title,
            Verdict.WARNING,
            gettext("The latest run failed."),
            gettext("Read its error; the next run tries again."),
            tuple(run.newest_error for run in failed if run.newest_error),
        )
    if errors:
        return Finding(
            "runs",
            title,
            Verdict.WARNING,
            gettext("A run is waiting for Orb."),
            gettext(
                "It continues automatically once Orb answers; check Orb's status page."
            ),
            errors,
        )
    words = gettext("No run is active.")
    if facts.active_runs:
        words = gettext("A run is in progress.")
    return Finding("runs", title, Verdict.OK, words)


def task_title(name: str) -> str:
    """Return a scheduled task's name in words."""
    titles = {
        INCREMENTAL: gettext("Incremental sync"),
        FULL: gettext("Full sync"),
        RECOVER: gettext("Recovery (recover)"),
        PRUNE: gettext("Deletion of old rows (prune)"),
    }
    return titles[name]


def _judge_schedule(facts: Facts) -> Finding:
    title = gettext("Schedule and workers")
    schedule = read_schedule(facts)
    details = tuple(_describe(task) for task in schedule.tasks)
    late = [task for task in schedule.tasks if task.late]
    verdict = worst(*(_by_age(task.late, LATENESS) for task in late if task.late))
    if verdict is not Verdict.OK:
        first = max(late, key=lambda task: task.late or timedelta())
        if schedule.has_beat:
            step = gettext("Check that a Celery worker and beat are running.")
        else:
            step = gettext(
                "Paste the README's schedule into your settings, or let cron call "
                "orb_sync_invoices --in-process."
            )
        words = gettext("%(task)s is late.") % {"task": task_title(first.name)}
        return Finding("schedule", title, verdict, words, step, details)
    failed = [task for task in schedule.tasks if task.error]
    if failed:
        words = gettext("%(task)s failed when it last ran.")
        return Finding(
            "schedule",
            title,
            Verdict.WARNING,
            words % {"task": task_title(failed[0].name)},
            gettext("Read the error in the worker's log; the task runs again."),
            (*details, *(task.error for task in failed)),
        )
    if schedule.missing:
        words = gettext("%(task)s is not in Celery's schedule.")
        return Finding(
            "schedule",
            title,
            Verdict.WARNING,
            words % {"task": task_title(schedule.missing[0])},
            gettext("Copy it from the README's schedule."),
            details,
        )
    words = gettext("Nothing is late.")
    return Finding("schedule", title, Verdict.OK, words, details=details)


def _describe(task: ScheduledTask) -> str:
    title = task_title(task.name)
    if task.ran_at is None:
        return gettext("%(task)s: has not run yet") % {"task": title}
    words = gettext("%(task)s: last ran %(ago)s")
    return words % {"task": title, "ago": ago(task.ran_at)}


def _judge_webhooks(facts: Facts) -> Finding:
    title = gettext("Webhooks")
    if not get_settings().WEBHOOK_SECRETS:
        return Finding(
            "webhooks",
            title,
            Verdict.OK,
            gettext("They are not set up. Changes are found by the schedule."),
        )
    last = facts.webhook_received_at
    words = gettext("None has arrived.")
    if last is not None:
        words = gettext("The last one arrived %(ago)s.") % {"ago": ago(last)}
    refused = facts.occurrences.get(REFUSED)
    details = tuple(_describe_refusals(facts))
    # Requests without a signature do not count: whoever knows the address can send one.
    if refused and (last is None or refused.at > last):
        return Finding(
            "webhooks",
            title,
            Verdict.WARNING,
            " ".join([words, gettext("A later one was refused.")]),
            gettext(
                "Compare WEBHOOK_SECRETS with the endpoint's secret in Orb, and check "
                "this server's clock."
            ),
            details,
        )
    if _feed_is_ahead(facts):
        return Finding(
            "webhooks",
            title,
            Verdict.WARNING,
            " ".join([words, gettext("Orb's list has later events.")]),
            gettext(
                "Check the endpoint's deliveries in Orb's developer settings, and try "
                "manage.py orb_send_test_event. Until then changes come from the list."
            ),
            details,
        )
    return Finding("webhooks", title, Verdict.OK, words, details=details)


def _describe_refusals(facts: Facts) -> Iterator[str]:
    kinds = {
        REFUSED: gettext("Last refused %(ago)s: %(reason)s"),
        REFUSED_UNSIGNED: gettext(
            "Last refused without a signature %(ago)s: %(reason)s"
        ),
    }
    for name, words in kinds.items():
        if refused := facts.occurrences.get(name):
            yield words % {"ago": ago(refused.at), "reason": refused.detail}


def _feed_is_ahead(facts: Facts) -> bool:
    newest = facts.undelivered_created_at
    if newest is None:
        return False
    # By Orb's clock on both sides, unless the event came without a time.
    delivered = facts.webhook_created_at or facts.webhook_received_at
    return delivered is None or newest - delivered > FEED_AHEAD


def _judge_backlog(facts: Facts) -> Finding:
    title = gettext("Backlog")
    events, operations = facts.events_waiting, facts.operations_waiting
    changes, erasures = facts.changes_waiting, facts.erasures_waiting
    waiting = [
        (
            events,
            ngettext(
                "%(count)s webhook event waits.",
                "%(count)s webhook events wait.",
                events.count,
            ),
        ),
        (
            operations,
            ngettext(
                "%(count)s operation waits for Orb.",
                "%(count)s operations wait for Orb.",
                operations.count,
            ),
        ),
        (
            changes,
            ngettext(
                "%(count)s change waits to be announced.",
                "%(count)s changes wait to be announced.",
                changes.count,
            ),
        ),
        (
            erasures,
            ngettext(
                "%(count)s erasure of a customer is still running.",
                "%(count)s erasures of customers are still running.",
                erasures.count,
            ),
        ),
    ]
    words = _counted(waiting)
    sent = _age_of(operations, facts)
    done = worst(*(_age_of(one, facts) for one in (events, changes, erasures)))
    steps = []
    if get_settings().READ_ONLY and sent is not Verdict.OK:
        # They wait on purpose, and no worker would change that.
        sent = Verdict.WARNING
        steps.append(gettext("READ_ONLY is on: nothing is sent to Orb from here."))
    if done is not Verdict.OK or (sent is not Verdict.OK and not steps):
        steps.append(
            gettext(
                "Check that workers are running and that recover runs every minute: it "
                "resumes what is waiting."
            )
        )
    words = words or gettext("Nothing is waiting.")
    return Finding("backlog", title, worst(sent, done), words, " ".join(steps))


def _age_of(backlog: Backlog, facts: Facts) -> Verdict:
    oldest: datetime | None = backlog.oldest_at
    return _by_age(facts.now - oldest, BACKLOG_AGES) if oldest else Verdict.OK


def _judge_attention(facts: Facts) -> Finding:
    title = gettext("Needs attention")
    events, changes = facts.events_failed, facts.changes_failed
    operations, invoices = facts.operations_needing_attention, facts.invoices_failed
    words = _counted(
        [
            (
                operations,
                ngettext(
                    "The outcome of %(count)s operation is unknown.",
                    "The outcome of %(count)s operations is unknown.",
                    operations.count,
                ),
            ),
            (
                events,
                ngettext(
                    "%(count)s webhook event fails.",
                    "%(count)s webhook events fail.",
                    events.count,
                ),
            ),
            (
                changes,
                ngettext(
                    "%(count)s change could not be announced.",
                    "%(count)s changes could not be announced.",
                    changes.count,
                ),
            ),
            (
                Backlog(invoices),
                ngettext(
                    "%(count)s invoice could not be read.",
                    "%(count)s invoices could not be read.",
                    invoices,
                ),
            ),
            (
                facts.erasures_failed,
                ngettext(
                    "%(count)s erasure of a customer is incomplete.",
                    "%(count)s erasures of customers are incomplete.",
                    facts.erasures_failed.count,
                ),
            ),
        ]
    )
    if not words:
        return Finding(
            "attention",
            title,
            Verdict.OK,
            gettext(
                "Nothing in the mirror itself. The overview lists payments and invoices "
                "that fail in Orb."
            ),
        )
    return Finding("attention", title, Verdict.WARNING, words, _how_to_attend(facts))


def _how_to_attend(facts: Facts) -> str:
    step = gettext("The admin's overview lists them, and says what to do about each.")
    if facts.erasures_failed.count:
        step = gettext(
            "The customer's page in the admin says what an erasure has left. %(step)s"
        ) % {"step": step}
    return step


def _counted(parts: list[tuple[Backlog, str]]) -> str:
    return " ".join(
        words % {"count": number_format(backlog.count, force_grouping=True)}
        for backlog, words in parts
        if backlog.count
    )


def _by_age(age: timedelta, limits: tuple[timedelta, timedelta]) -> Verdict:
    warning, failing = limits
    if age > failing:
        return Verdict.FAILING
    return Verdict.WARNING if age > warning else Verdict.OK
