"""What can happen to a run: troubles of Orb, bad invoices, changes meanwhile."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from werkzeug.wrappers import Response

from django_orb.testing import OrbSandbox

LIST, SUMMARIES, FETCH = "list_invoices", "list_invoice_summaries", "fetch_invoice"
EVENTS = "list_webhook_events"
# Whoever gets an answer with this header dies of it.
KILLS = "X-Kills"
SECONDS = 0.4
NONSENSE = "a lot"
ODD = {
    "half an emoji": rb'"\ud83d"',
    "NaN": b"NaN",
    "too deep": b"[" * 20_000 + b"]" * 20_000,
    "not UTF-8": b'"\xff"',
    "broken": b'{"',
}

GoOn = Callable[[], Response]


class Killed(BaseException):
    """The worker is gone, at this very point."""


class Misfortune:
    """
    Something that goes wrong for the time of an act, or longer.

    `stays` is how probably it goes on in the next act.
    """

    may_end_a_run = False
    is_slow = False
    stays = 0.0
    hides = ""

    def begin(self, orb: OrbSandbox) -> None:
        pass

    def end(self, orb: OrbSandbox) -> None:
        pass

    def around(self, route: str, request: Any, go_on: GoOn) -> GoOn:
        return go_on


@dataclass
class Failures(Misfortune):
    """A call of one of the sandbox's `*_next` methods."""

    method: str
    options: dict[str, Any]
    may_end_a_run: bool = False

    def begin(self, orb: OrbSandbox) -> None:
        getattr(orb, self.method)(**self.options)


@dataclass
class NoFeed(Misfortune):
    """The account has no list of events for a while."""

    def begin(self, orb: OrbSandbox) -> None:
        orb.has_webhook_events = False

    def end(self, orb: OrbSandbox) -> None:
        orb.has_webhook_events = True


@dataclass
class BadInvoice(Misfortune):
    """Answers with this invoice fail, those of pages above a size or all of them."""

    invoice_id: str
    how: str
    routes: tuple[str, ...]
    above: int = 0
    stays: float = 0.5

    def __post_init__(self) -> None:
        self.is_slow = self.how == "slow"
        self.may_end_a_run = SUMMARIES in self.routes
        self._first = re.compile(rb'("id":\s*"%s",)' % self.invoice_id.encode())

    def around(self, route: str, request: Any, go_on: GoOn) -> GoOn:
        if route not in self.routes:
            return go_on
        if route != FETCH and int(request.args.get("limit", 20)) <= self.above:
            return go_on
        return lambda: self._spoil(go_on())

    def _spoil(self, answer: Response) -> Response:
        if not self._first.search(answer.get_data()):
            return answer
        if self.how.isdigit():
            return Response(
                "<h1>bad</h1>", status=int(self.how), content_type="text/html"
            )
        if self.how == "kills":
            answer.headers[KILLS] = "yes"
        elif self.how == "slow":
            threading.Event().wait(SECONDS)
        else:
            odd = b'"odd":' + ODD[self.how] + b","
            body = self._first.sub(lambda found: found[1] + odd, answer.get_data())
            return Response(body, content_type="application/json")
        return answer


@dataclass
class Unfetchable(Misfortune):
    """An invoice that the list does not show, and a fetch does not bring."""

    invoice_id: str
    how: str
    stays: float = 0.3

    def __post_init__(self) -> None:
        self.hides = self.invoice_id

    def around(self, route: str, request: Any, go_on: GoOn) -> GoOn:
        if route in (LIST, SUMMARIES):
            return lambda: self._hide(go_on())
        if route != FETCH or not request.path.endswith(self.hides):
            return go_on
        if self.how == "kills":
            return lambda: Response("{}", headers={KILLS: "yes"})
        return lambda: Response(status=int(self.how))

    def _hide(self, answer: Response) -> Response:
        payload = answer.get_json()
        payload["data"] = [one for one in payload["data"] if one["id"] != self.hides]
        return Response(json.dumps(payload), content_type="application/json")


@dataclass
class Circle(Misfortune):
    """After some pages the cursors of a list come in a circle."""

    route: str
    skip: int
    length: int
    times: int
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self.may_end_a_run = self.route == LIST

    def around(self, route: str, request: Any, go_on: GoOn) -> GoOn:
        return (lambda: self._turn(request, go_on)) if route == self.route else go_on

    def _turn(self, request: Any, go_on: GoOn) -> Response:
        cursor = request.args.get("cursor", "")
        number = 0
        if cursor.startswith("circle:"):
            _, text, cursor = cursor.split(":", 2)
            number = int(text)
            values = request.args.to_dict(flat=False)
            values["cursor"] = [cursor]
            if not cursor:
                del values["cursor"]
            request.args = type(request.args)(values)
        elif not self._begins():
            return go_on()
        answer = go_on()
        if answer.status_code != 200:
            return answer
        following = f"circle:{number % self.length + 1}:{cursor}"
        payload = answer.get_json()
        payload["pagination_metadata"] = {"has_more": True, "next_cursor": following}
        return Response(json.dumps(payload), content_type="application/json")

    def _begins(self) -> bool:
        with self._lock:
            self.skip -= 1
            if self.skip >= 0 or not self.times:
                return False
            self.times -= 1
            return True


Make = Callable[[random.Random, OrbSandbox], Misfortune]


def misfortunes_by_chance(
    chance: random.Random, orb: OrbSandbox, makers: Sequence[Make]
) -> list[Misfortune]:
    count = chance.choice([0, 1, 2, 2])
    return [chance.choice(makers)(chance, orb) for _ in range(count)]


def in_passing(chance: random.Random, orb: OrbSandbox) -> Misfortune:
    options: dict[str, Any] = {
        "count": chance.randint(1, 4),
        "skip": chance.randint(0, 6),
        "route": chance.choice([LIST, LIST, FETCH, EVENTS, None]),
    }
    kind = chance.choice(["429", "5xx", "html", "cut", "away", "repeat", "delay"])
    if kind == "repeat":
        count = chance.randint(1, 2)
        given = {"count": count, "skip": options["skip"]}
        return Failures("repeat_next", given, may_end_a_run=True)
    if kind == "delay":
        failures = Failures("delay_next", {**options, "count": 1, "seconds": SECONDS})
        failures.is_slow = True
        return failures
    if kind == "cut":
        options["when"] = chance.choice(["before", "during", "after"])
        return Failures("cut_next", options)
    if kind == "429":
        after = chance.choice(["", "1", "30", "0.5", "soon"])
        options |= {"status": 429, "headers": {"Retry-After": after} if after else {}}
    elif kind == "html":
        options |= {"status": 502, "html": True}
    elif kind == "away":
        options |= {"status": 503, "count": chance.randint(5, 40), "route": None}
    else:
        when = chance.choice(["before", "after"])
        options |= {"status": chance.choice([408, 500, 503]), "when": when}
    return Failures("fail_next", options)


def refusal(chance: random.Random, orb: OrbSandbox) -> Misfortune:
    options: dict[str, Any] = {"count": 10_000, "skip": chance.randint(0, 8)}
    options["status"] = chance.choice([401, 403])
    return Failures("fail_next", options, may_end_a_run=True)


def bad_feed(chance: random.Random, orb: OrbSandbox) -> Misfortune:
    kind = chance.choice(["away", "none", "circle"])
    if kind == "none":
        return NoFeed()
    if kind == "circle":
        return Circle(EVENTS, 0, chance.randint(1, 5), 10_000)
    options = {"count": 10_000, "status": 503, "route": EVENTS}
    return Failures("fail_next", options)


def circle(chance: random.Random, orb: OrbSandbox) -> Misfortune:
    skip, times = chance.randint(0, 3), chance.choice([1, 10_000])
    return Circle(LIST, skip, chance.randint(1, 9), times)


def _invoice_id(chance: random.Random, orb: OrbSandbox) -> str:
    return chance.choice(orb.invoice_ids())


def bad_invoice(chance: random.Random, orb: OrbSandbox) -> Misfortune:
    how = chance.choice([*ODD, "504", "kills", "slow"])
    invoice_id = _invoice_id(chance, orb)
    if how == "slow":
        return BadInvoice(invoice_id, how, (LIST,), above=chance.choice([2, 50]))
    routes = chance.choice([(LIST,), (LIST, FETCH), (LIST, FETCH, SUMMARIES)])
    above = chance.choice([0, 0, 1, 5, 50])
    return BadInvoice(invoice_id, how, routes, above)


def unfetchable(chance: random.Random, orb: OrbSandbox) -> Misfortune:
    how = chance.choice(["403", "504", "kills"])
    return Unfetchable(_invoice_id(chance, orb), how)


MAKERS: tuple[Make, ...] = (
    *(in_passing, in_passing, refusal, bad_feed, circle),
    *(bad_invoice, bad_invoice, unfetchable),
)

STATUS_BEFORE = {"issue": "draft", "mark_paid": "issued", "void": "issued"}
KINDS: tuple[str, ...] = (
    *("add", "add", "mark_paid", "mark_paid", "void", "issue", "move"),
    *("break", "break new", "delete", "delete broken"),
)


@dataclass(frozen=True)
class Change:
    """Something at Orb between two requests; `which` chooses the invoice."""

    kind: str
    which: int
    days_ago: int

    @classmethod
    def by_chance(cls, chance: random.Random, kinds: Sequence[str]) -> Change:
        kind = chance.choice(kinds)
        return cls(kind, chance.randint(0, 99), chance.randint(-40, 300))

    @property
    def has_event(self) -> bool:
        return self.kind in STATUS_BEFORE

    def happen(self, orb: OrbSandbox, broken: dict[str, str]) -> str:
        """Let it happen; the invoice that it happened to, if there was one."""
        if self.kind in ("add", "break new"):
            added = orb.add_invoice(days_ago=self.days_ago)
            if self.kind == "break new":
                _break(orb, added["id"], broken)
            return str(added["id"])
        status = STATUS_BEFORE.get(self.kind)
        ids = orb.invoice_ids(status)
        if status and not ids:
            added = orb.add_invoice(status=status, days_ago=self.days_ago)
            ids = [added["id"]]
        if self.kind == "delete broken":
            ids = sorted(broken.keys() & set(ids))
        if not ids:
            return ""
        invoice_id = ids[self.which % len(ids)]
        if self.kind in STATUS_BEFORE:
            getattr(orb, self.kind)(invoice_id)
        elif self.kind == "move":
            moved = orb.add_invoice(days_ago=self.days_ago)["invoice_date"]
            orb.update_invoice(invoice_id, invoice_date=moved)
        elif self.kind == "break":
            _break(orb, invoice_id, broken)
        else:
            orb.delete_invoice(invoice_id)
        return invoice_id


def _break(orb: OrbSandbox, invoice_id: str, broken: dict[str, str]) -> None:
    if invoice_id not in broken:
        broken[invoice_id] = orb.invoice(invoice_id)["total"]
        orb.update_invoice(invoice_id, total=NONSENSE)
