"""A page as a browser has it: its title, its text, its links and its forms."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser

HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
SILENT = {"script", "style", "template"}
VOID = {
    *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta"),
    *("source", "track", "wbr"),
}
# Their end may be left out.
LOOSE = {"p", "li", "dt", "dd", "option", "tr", "td", "th", "thead", "tbody"}
FORM_IN_FORM = "a form within a form"
SPOKEN = ("alt", "aria-label", "placeholder", "title")

Attributes = dict[str, str]


@dataclass
class Control:
    """Something in a form that has a value."""

    name: str
    type: str
    value: str = ""
    options: list[str] = field(default_factory=list)
    is_checked: bool = False
    #: Where a button sends its form instead.
    action: str = ""

    @property
    def is_button(self) -> bool:
        return self.type in ("submit", "image", "button", "reset")


@dataclass
class Form:
    action: str
    method: str
    controls: list[Control] = field(default_factory=list)

    @property
    def buttons(self) -> list[Control]:
        """What sends it; a form without a button is sent by the return key."""
        found = [one for one in self.controls if one.type in ("submit", "image")]
        return found or [Control("", "submit")]

    def by_target(self) -> list[Form]:
        """The same for each place that a button of it sends it to."""
        actions = dict.fromkeys(one.action for one in self.buttons)
        return [
            Form(
                action or self.action,
                self.method,
                [
                    one
                    for one in self.controls
                    if one.action == action or not one.is_button
                ],
            )
            for action in actions
        ]

    @property
    def is_sendable(self) -> bool:
        """Whether it has a button, or a field in which the return key sends it."""
        return any(
            one.type not in ("hidden", "button", "reset") for one in self.controls
        )

    @property
    def visible(self) -> list[Control]:
        """What a person fills in."""
        return [
            one for one in self.controls if one.type != "hidden" and not one.is_button
        ]


class Document(HTMLParser):
    """What a page has, and what is wrong with its markup."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.titles: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.links: list[str] = []
        self.assets: list[str] = []
        self.forms: list[Form] = []
        self.classes: set[str] = set()
        self.ids: Counter[str] = Counter()
        self.mistakes: list[str] = []
        self._words: list[str] = []
        self._open: list[str] = []
        self._form: Form | None = None
        self._forms_by_id: dict[str, Form] = {}
        self._elsewhere: list[tuple[str, Control]] = []
        self._select: Control | None = None
        self.feed(text)
        self.close()
        for form_id, control in self._elsewhere:
            if form_id in self._forms_by_id:
                self._forms_by_id[form_id].controls.append(control)
            else:
                self.mistakes.append(f"a control of no form: {form_id}")

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self._words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag not in VOID:
            self._open.append(tag)
        self.classes.update(given.get("class", "").split())
        if "id" in given:
            self.ids[given["id"]] += 1
        self._words += [given[name] for name in SPOKEN if name in given]
        self._look_at_inline(tag, given)
        if tag == "title" and "svg" not in self._open:
            self.titles.append("")
        elif tag in HEADINGS:
            self.headings.append((tag, ""))
        elif tag in ("a", "area") and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and "href" in given:
            self.assets.append(given["href"])
        elif tag in ("script", "img") and "src" in given:
            self.assets.append(given["src"])
        else:
            self._look_at_form(tag, given)

    def _look_at_inline(self, tag: str, given: Attributes) -> None:
        """Note what a strict content security policy refuses."""
        inline = [name for name in given if name == "style" or name.startswith("on")]
        kind = given.get("type", "text/javascript")
        is_code = tag == "script" and "src" not in given and "json" not in kind
        if inline or tag == "style" or is_code:
            self.mistakes.append(f"inline {tag} {' '.join(inline)}".strip())
        for name in ("href", "src", "action"):
            if given.get(name, "").lower().startswith("javascript:"):
                self.mistakes.append(f"a script as an address: {given[name]}")

    def _look_at_form(self, tag: str, given: Attributes) -> None:
        name, control = given.get("name", ""), None
        if tag == "form":
            if self._form is not None:
                self.mistakes.append(FORM_IN_FORM)
            method = given.get("method", "get").lower()
            self._form = Form(given.get("action", ""), method)
            self.forms.append(self._form)
            if "id" in given:
                self._forms_by_id[given["id"]] = self._form
        elif tag in ("input", "button"):
            kind = given.get("type", "submit" if tag == "button" else "text")
            value = given.get("value", "on" if kind in ("checkbox", "radio") else "")
            if kind == "submit" and tag == "input":
                self._words.append(value)
            checked, action = "checked" in given, given.get("formaction", "")
            control = Control(name, kind, value, is_checked=checked, action=action)
        elif tag == "textarea":
            control = Control(name, "textarea")
        elif tag == "select":
            control = Control(name, "select")
            self._select = control
        elif tag == "option" and self._select is not None:
            value = given.get("value", "")
            self._select.options.append(value)
            if "selected" in given or len(self._select.options) == 1:
                self._select.value = value
        if control is None or "disabled" in given:
            return
        if "form" in given:
            self._elsewhere.append((given["form"], control))
        elif self._form is not None:
            self._form.controls.append(control)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = None
        while self._open and self._open[-1] != tag and self._open[-1] in LOOSE:
            self._open.pop()
        if self._open and self._open[-1] == tag:
            self._open.pop()
        elif tag not in VOID and tag not in LOOSE:
            inside = self._open[-1] if self._open else "nothing"
            self.mistakes.append(f"</{tag}> ends a <{inside}>")

    def handle_data(self, data: str) -> None:
        if "title" in self._open and "svg" not in self._open:
            self.titles[-1] += data
        for tag in HEADINGS & {*self._open}:
            level, text = self.headings[-1]
            if level == tag:
                self.headings[-1] = (level, text + data)
        if self._open and self._open[-1] == "textarea" and self._form is not None:
            control = self._form.controls[-1]
            control.value += data if control.value else data.removeprefix("\n")
        if not SILENT & {*self._open}:
            self._words.append(data)
