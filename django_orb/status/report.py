"""A status: the facts and the findings at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext

from django_orb.account import PacedClient, require_same_account
from django_orb.exceptions import (
    OrbAccountError,
    OrbAuthenticationError,
    OrbConfigurationError,
    OrbError,
    OrbPermissionError,
)

from .facts import Facts, read_facts
from .findings import Finding, Verdict, judge, worst


@dataclass(frozen=True)
class StatusReport:
    """The findings, and the facts they come from."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    facts: Facts

    @property
    def read_at(self) -> datetime:
        return self.facts.now

    def of_verdict(self, verdict: Verdict) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict is verdict]


def read_status(*, ask_orb: bool = False) -> StatusReport:
    """
    Say whether all is well, in at most twelve statements (and two of a savepoint, if
    called in a transaction).

    Orb is asked only if `ask_orb`: that may take as long as `TIMEOUT_SECONDS` allows.

    Raises:
        DatabaseError: the mirror's database cannot be read. If only its runs cannot, a
            finding says so.
    """
    answer = _ask_orb() if ask_orb else None
    facts = read_facts()
    findings = tuple(
        answer if answer and finding.name == answer.name else finding
        for finding in judge(facts)
    )
    verdict = worst(*(finding.verdict for finding in findings))
    return StatusReport(verdict, findings, facts)


def _ask_orb() -> Finding:
    title = gettext("Key and account")
    try:
        # With retries it would take several times as long.
        with PacedClient.connect(retries=0) as client:
            # The next line asks Orb only about a key that is new here.
            client.ping()
            require_same_account(client)
    except (OrbError, OrbConfigurationError) as err:
        words, step = _explain(err)
        return Finding("account", title, Verdict.FAILING, words, step, (str(err),))
    words = gettext("Orb was asked now and accepts the key, which is of this account.")
    return Finding("account", title, Verdict.OK, words)


def _explain(err: Exception) -> tuple[str, str]:
    if isinstance(err, OrbConfigurationError):
        return (
            gettext("The settings are not valid."),
            gettext("Run manage.py check, and correct DJANGO_ORB."),
        )
    if isinstance(err, (OrbAuthenticationError, OrbPermissionError)):
        return (
            gettext("Orb refuses the key."),
            gettext("Create a new key in Orb's developer settings, and set API_KEY."),
        )
    if isinstance(err, OrbAccountError):
        return (
            gettext("The key belongs to a different account than the mirror."),
            gettext("Set API_KEY to a key of the mirror's account."),
        )
    return (
        gettext("Orb does not answer as it should."),
        gettext("Check Orb's status page, BASE_URL and the network."),
    )
