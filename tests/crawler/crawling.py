"""Going through all pages that a person can reach, and what is wrong with them."""

from __future__ import annotations

import re
import traceback
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urljoin, urlsplit

from django.conf import settings
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.messages import get_messages
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.test import Client
from django.urls import NoReverseMatch, Resolver404, get_resolver, resolve, reverse

from .documents import FORM_IN_FORM, Document, Form
from .filling import RUBBISH, Submission, Values, submissions

ANSWERS = {200, 302, 400, 403, 404, 405}
# Django's own pages: looked at, but not filled in.
NOT_OURS = ("admin:auth_", "admin:password_", "admin:log", "admin:sites_")
OURS = ("admin:django_orb_", "django_orb:", "my-")
# What a template or a translation leaves behind that went wrong.
BROKEN = re.compile(
    r"%\(\w+\)|\{\{|\{%|\bNone\b(?! of| available)|object at 0x|__proxy__"
    r"|&(?:amp|lt|gt|quot|nbsp|#\d+);"
)
EXPLAINED = {"errornote", "errorlist", "messagelist"}


class Crawler:
    """
    One person's way through the pages.

    A route is followed `visits` times, and once more for each key of a query that it
    was not yet followed with; a form that looks like one that was sent is not sent.
    """

    def __init__(
        self,
        client: Client,
        *,
        visits: int = 2,
        rounds: int = 3,
        most: int = 10_000,
        is_plain: bool = True,
    ) -> None:
        self.client = client
        self.visits = visits
        self.rounds = rounds
        self.most = most
        self.is_plain = is_plain
        self.pages = 0
        self.sent = 0
        #: The names of the pages and forms that something leads to.
        self.reached: set[str] = set()
        #: What is wrong, each with where it was first seen.
        self.faults: dict[str, str] = {}
        self._queue: deque[tuple[str, str]] = deque()
        self._forms: deque[tuple[str, Form]] = deque()
        self._known: set[str] = set()
        self._followed: Counter[Any] = Counter()
        self._filled: set[Any] = set()
        self._fills = 0
        self._assets: set[str] = set()

    def crawl(self, starts: Iterable[str]) -> None:
        for start in starts:
            self._known.add(start)
            self.reached.add(route_of(start))
            self._visit(start, "", is_start=True)
        # Forms last: what they do takes away buttons and pages.
        while (self._queue or self._forms) and self.pages < self.most:
            if self._queue:
                self._visit(*self._queue.popleft())
            else:
                self._fill_in(*self._forms.popleft())

    def look_for_lost_pages(self) -> None:
        """Note the pages of ours that somebody who may do everything did not reach."""
        for name in sorted(our_routes() - self.reached):
            # Rows are not added or deleted by hand, and the overview has none.
            is_none = name.endswith(("_add", "_delete", "webhook"))
            if not is_none and "_overview_" not in name:
                self._note(f"nothing leads to {name}", "the end")

    def ask_for_rubbish(self) -> None:
        """Ask for every address of ours with ids that nothing has."""
        for name in sorted(our_routes()):
            for text in ("no-such-id", *RUBBISH[: 2 * self.rounds]):
                try:
                    url = reverse(name, args=[text])
                except NoReverseMatch:
                    continue
                for method in ("get", "post"):
                    self._ask(method, url, "an id that nothing has")

    def _note(self, fault: str, where: str) -> None:
        self.faults.setdefault(fault, where)

    def _ask(self, method: str, url: str, why: str, values: Values = ()) -> Any:
        where = f"{method.upper()} {url[:200]} ({why[:300]})"
        self.pages += method == "get"
        self.sent += method == "post"
        try:
            if method == "get":
                response = self.client.get(url)
            else:
                kind = "application/x-www-form-urlencoded"
                body = urlencode(values)
                response = self.client.post(url, body, content_type=kind)
        except Exception as error:  # noqa: BLE001  whatever a view raises is a fault
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {str(error)[:300]}"
            self._note(f"{text} in {last.filename}:{last.lineno}", where)
            return None
        if response.status_code not in ANSWERS:
            self._note(f"status {response.status_code} of {route_of(url)}", where)
        return response

    def _visit(self, url: str, source: str, *, is_start: bool = False) -> None:
        response = self._ask("get", url, f"from {source}")
        if response is None:
            return
        is_refused = response.status_code in (403, 404) and is_start
        if not self.is_plain and "/history/" in source:
            # Jazzmin's page links who did it without asking for the permission.
            is_refused |= response.status_code == 403 and "/auth/user/" in url
        if response.status_code not in (200, 302) and not is_refused:
            text = f"a link to {route_of(url)} answers {response.status_code}"
            self._note(text, f"{url} from {source}")
        self._arrive(url, response, source)
        self._spoil_query(url)

    def _arrive(self, url: str, response: Any, source: str, form: Any = None) -> None:
        """Look at an answer, and follow it where it redirects to."""
        for _ in range(5):
            if response is None or response.status_code != 302:
                break
            target = urljoin(url, response["Location"])
            if not self._is_inside(target, url):
                return
            url = target
            response = self._ask("get", url, f"redirected from {source}")
        if response is not None and "html" in response.get("Content-Type", ""):
            document = self._examine(url, response, source)
            if response.status_code == 200:
                self._follow_links(url, document)
                for one in document.forms:
                    self._note_form(url, one)

    def _is_inside(self, target: str, source: str) -> bool:
        """Whether this site answers it; an address elsewhere must be a whole one."""
        parts = urlsplit(target)
        if not parts.netloc and not parts.scheme:
            return True
        if parts.scheme not in ("http", "https", "mailto") or not parts.netloc:
            self._note(f"not an address: {target[:100]}", source)
        return False

    def _examine(self, url: str, response: Any, source: str) -> Document:
        where = f"{url[:200]} ({source[:300]})"
        document = Document(response.content.decode())
        route = route_of(url)
        if [bool(title.strip()) for title in document.titles] != [True]:
            self._note(f"titles of {route}: {document.titles}", where)
        tops = [text.strip() for tag, text in document.headings if tag == "h1"]
        if self.is_plain and (len(tops) != 1 or not tops[0]):
            self._note(f"<h1> of {route}: {tops}", where)
        shown = document.text.replace("%(x)s", "").replace("{{ x }}", "")
        if found := BROKEN.search(shown):
            around = shown[max(found.start() - 40, 0) : found.end() + 40]
            self._note(f"{found[0]!r} on {route}", f"{where}: {around!r}")
        for mistake in document.mistakes:
            if self.is_plain or mistake == FORM_IN_FORM:
                self._note(f"{mistake} on {route}", where)
        if self.is_plain:
            for name, count in document.ids.items():
                if count > 1:
                    self._note(f"{count} elements are #{name} on {route}", where)
        for asset in document.assets:
            self._check_asset(asset, where)
        return document

    def _check_asset(self, url: str, where: str) -> None:
        prefix = f"/{settings.STATIC_URL.strip('/')}/"
        if url in self._assets or not urlsplit(url).path.startswith(prefix):
            return
        self._assets.add(url)
        name = unquote(urlsplit(url).path.removeprefix(prefix))
        is_collected = bool(getattr(settings, "STATIC_ROOT", None))
        there = staticfiles_storage.exists if is_collected else finders.find
        if not there(name):
            self._note(f"no static file {name}", where)

    def _follow_links(self, url: str, document: Document) -> None:
        for link in document.links:
            target = urljoin(url, link)
            if link.startswith("#"):
                if link != "#" and link[1:] not in document.ids:
                    self._note(f"a link to {link}, which is not there", url)
            elif self._is_inside(target, url):
                self._enqueue(target.partition("#")[0], url)

    def _enqueue(self, url: str, source: str) -> None:
        if url in self._known:
            return
        self._known.add(url)
        name = route_of(url)
        if not name:
            self._note(f"a link to nowhere: {url[:200]}", source)
            return
        self.reached.add(name)
        keys = [key for key, _ in parse_qsl(urlsplit(url).query, True)]
        marks = [(name, key) for key in keys or [""]]
        if any(self._followed[mark] < self.visits for mark in marks):
            self._followed.update(marks)
            self._queue.append((url, source))

    def _spoil_query(self, url: str) -> None:
        """The same address with rubbish for a key of its query, once for each key."""
        parts = urlsplit(url)
        query = parse_qsl(parts.query, True)
        for place, (key, _) in enumerate(query):
            mark = ("rubbish", route_of(url), key)
            if mark in self._filled:
                continue
            self._filled.add(mark)
            for number in range(self.rounds):
                text = RUBBISH[(len(self._filled) + number) % len(RUBBISH)]
                spoiled = [*query[:place], (key, text), *query[place + 1 :]]
                target = f"{parts.path}?{urlencode(spoiled)}"
                response = self._ask("get", target, f"rubbish in {url}")
                if response is not None and response.status_code == 200:
                    self._examine(target, response, "rubbish in the query")

    # Forms

    def _note_form(self, url: str, whole: Form) -> None:
        """Have a form filled in later, unless one that looks like it was."""
        for form in whole.by_target():
            name = route_of(self._target(url, form))
            if not name:
                self._note(f"a form to nowhere: {form.action[:200]}", url)
                continue
            if form.is_sendable:
                self.reached.add(name)
            controls = form.visible if form.method == "get" else form.controls
            rows = Counter(one.name for one in controls)
            look = (
                route_of(url),
                name,
                form.method,
                frozenset(rows),
                tuple(one.value for one in controls if one.name == "action"),
                max(rows.values(), default=0) > 5,
            )
            if look not in self._filled and not name.startswith(NOT_OURS):
                self._filled.add(look)
                self._forms.append((url, form))

    def _target(self, url: str, form: Form) -> str:
        return urljoin(url, form.action).partition("#")[0]

    def _fill_in(self, url: str, form: Form) -> None:
        target = self._target(url, form)
        self._fills += 1
        for submission in submissions(form, rounds=self.rounds, start=self._fills):
            # To Django's own lists a key that is not a number is an error.
            is_key = submission.how == f"rubbish for {ACTION_CHECKBOX_NAME}"
            if route_of(target).startswith(OURS) or not is_key:
                self._send(url, target, form, submission)

    def _send(self, url: str, target: str, form: Form, submission: Submission) -> None:
        given = "; ".join(f"{k}={v[:20]}" for k, v in submission.values)
        source = f"{submission.how} in the form of {url}: {given}"
        if form.method == "get":
            target = f"{target.partition('?')[0]}?{urlencode(submission.values)}"
            response = self._ask("get", target, source)
        else:
            response = self._ask("post", target, source, submission.values)
        if response is None:
            return
        is_refused = response.status_code not in (200, 302)
        if submission.is_right and is_refused:
            text = f"{response.status_code} for what is right in {route_of(target)}"
            self._note(text, source)
        if form.method == "post":
            self._check_words(target, form, response, submission, source)
        if response.status_code == 302 and not submission.is_right:
            mark = ("redirected", route_of(target), route_of(response["Location"]))
            if mark in self._filled:
                return
            self._filled.add(mark)
        self._arrive(target, response, source)

    def _check_words(
        self, target: str, form: Form, response: Any, submission: Submission, where: str
    ) -> None:
        """A form says what was wrong with it, or what came of it."""
        if not route_of(target).startswith(OURS):
            return
        if response.status_code == 302:
            messages: Any = get_messages(response.wsgi_request)
            if submission.is_right and not messages._queued_messages:
                self._note(f"nothing is said by {route_of(target)}", where)
        elif submission.must_explain and response.status_code == 200:
            document = Document(response.content.decode())
            names = {one.name for one in form.visible}
            is_same = any(
                names == {one.name for one in other.visible} for other in document.forms
            )
            if is_same and not EXPLAINED & document.classes:
                self._note(f"no reason is given by {route_of(target)}", where)


def route_of(url: str) -> str:
    """The name of a page, or its pattern; "" if there is no such page."""
    try:
        match = resolve(urlsplit(url).path)
    except Resolver404:
        return ""
    return match.view_name or match.route


def our_routes() -> set[str]:
    """The names of the pages of this package and of the example."""
    found = set()
    for name in names_below(get_resolver()):
        if name.startswith((*OURS, "admin:example_")):
            found.add(name)
    return found


def names_below(resolver: Any, prefix: str = "") -> set[str]:
    names = {f"{prefix}{name}" for name in resolver.reverse_dict if type(name) is str}
    for namespace, (_, inner) in resolver.namespace_dict.items():
        names |= names_below(inner, f"{prefix}{namespace}:")
    return names
