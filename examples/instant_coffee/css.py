"""A reader for the CSS that pages carry: rules, custom properties, lengths."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_VARIABLE = re.compile(r"var\(\s*(--[\w-]+)\s*(?:,\s*([^()]*))?\)")
_LENGTH = re.compile(r"^(-?\d*\.?\d+)(px|rem|em|pt)?$")
_PX = {"px": 1.0, "rem": 16.0, "pt": 4 / 3}


@dataclass(frozen=True)
class Rule:
    """One selector with its declarations, and the media condition around it."""

    selector: str
    declarations: dict[str, str]
    media: str | None = None


@dataclass(frozen=True)
class Stylesheet:
    """All rules of a page, in source order, with the custom properties of its root."""

    rules: list[Rule]
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def media_queries(self) -> set[str]:
        """The distinct media conditions in use."""
        return {rule.media for rule in self.rules if rule.media}

    def resolve(self, value: str) -> str:
        """Replace `var(--name)` by its value, as deep as it goes."""
        for _ in range(8):
            replaced = _VARIABLE.sub(self._lookup, value)
            if replaced == value:
                break
            value = replaced
        return value.strip()

    def _lookup(self, match: re.Match[str]) -> str:
        return self.variables.get(match.group(1), match.group(2) or "")

    def values(self, *properties: str) -> Iterator[tuple[Rule, str, str]]:
        """Yield rule, property and resolved value of each declaration outside media queries."""
        for rule in self.rules:
            if rule.media:
                continue
            for name, value in rule.declarations.items():
                if name in properties:
                    yield rule, name, self.resolve(value)


def parse_stylesheet(text: str) -> Stylesheet:
    """Parse CSS source; at-rules other than `@media` are passed over."""
    rules = list(_rules(_COMMENT.sub("", text), media=None))
    variables: dict[str, str] = {}
    for rule in rules:
        if rule.selector == ":root" and rule.media is None:
            variables |= {k: v for k, v in rule.declarations.items() if k.startswith("--")}
    return Stylesheet(rules, variables)


def _rules(text: str, media: str | None) -> Iterator[Rule]:
    position = 0
    while (opening := text.find("{", position)) >= 0:
        prelude = text[position:opening].strip()
        closing = _closing_brace(text, opening)
        body = text[opening + 1 : closing]
        if prelude.startswith("@media"):
            yield from _rules(body, prelude.removeprefix("@media").strip())
        elif not prelude.startswith("@"):
            declarations = parse_declarations(body)
            for selector in prelude.split(","):
                yield Rule(" ".join(selector.split()), declarations, media)
        position = closing + 1


def _closing_brace(text: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(text)):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
    return len(text)


def parse_declarations(body: str) -> dict[str, str]:
    """Parse `name: value; …`, the last of a repeated name winning."""
    declarations = {}
    for part in body.split(";"):
        name, colon, value = part.partition(":")
        if colon and value.strip():
            declarations[name.strip().lower()] = value.strip()
    return declarations


def to_px(value: str, em: float = 16.0) -> float | None:
    """Convert a resolved length to pixels.

    `clamp()` counts as its upper bound. Percentages, `auto`, viewport units and `calc()` have no
    fixed length and give None.
    """
    text = value.strip()
    if text.startswith("clamp(") and text.endswith(")"):
        return to_px(text[6:-1].rpartition(",")[2], em)
    found = _LENGTH.match(text)
    if not found:
        return None
    number, unit = float(found.group(1)), found.group(2)
    if unit == "em":
        return number * em
    if unit is None:
        return 0.0 if number == 0 else None
    return number * _PX[unit]
