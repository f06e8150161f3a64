"""A small document tree with a cascade: which declarations an element of a page ends up with."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

from examples.instant_coffee.colour import Rgb, parse_colour
from examples.instant_coffee.css import Stylesheet, parse_declarations, parse_stylesheet, to_px

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "source", "wbr", "path", "circle"})
_SILENT = frozenset({"head", "script", "style", "svg", "template", "title"})
_INHERITED = frozenset({"color", "font-size", "font-weight", "line-height", "text-align"})
_COMPOUND = re.compile(r"(?P<kind>[.#]?)(?P<name>[\w-]+|\*)")
_WHITE: Rgb = (1.0, 1.0, 1.0)


@dataclass
class Node:
    """One element: its tag, attributes, own text and place in the tree."""

    tag: str
    attributes: dict[str, str]
    parent: "Node | None" = None
    children: list["Node"] = field(default_factory=list)
    text: str = ""

    @property
    def classes(self) -> frozenset[str]:
        """The element's class names."""
        return frozenset(self.attributes.get("class", "").split())

    @property
    def label(self) -> str:
        """The element as a reader of the page's source would name it."""
        first = self.attributes.get("class", "").split()[:1]
        return ".".join([self.tag, *first])

    def walk(self) -> Iterator["Node"]:
        """Yield this element and all below it, in document order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def ancestors(self) -> Iterator["Node"]:
        """Yield this element's parents, nearest first."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def all_text(self) -> str:
        """Join the text of this element and all below it."""
        return " ".join(" ".join(node.text for node in self.walk()).split())


class _TreeBuilder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("#document", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs}, self._open[-1])
        self._open[-1].children.append(node)
        if tag not in _VOID:
            self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs}, self._open[-1])
        self._open[-1].children.append(node)

    def handle_endtag(self, tag: str) -> None:
        for depth in range(len(self._open) - 1, 0, -1):
            if self._open[depth].tag == tag:
                del self._open[depth:]
                return

    def handle_data(self, data: str) -> None:
        self._open[-1].text += data


@dataclass(frozen=True)
class _Selector:
    """A selector as compounds from left to right, each with the combinator before it."""

    parts: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    specificity: tuple[int, int, int]

    def matches(self, node: Node) -> bool:
        return self._matches_from(node, len(self.parts) - 1)

    def _matches_from(self, node: Node, at: int) -> bool:
        combinator, simples = self.parts[at]
        if not all(_matches_simple(node, kind, name) for kind, name in simples):
            return False
        if at == 0:
            return True
        candidates = [node.parent] if combinator == ">" else list(node.ancestors())
        return any(self._matches_from(other, at - 1) for other in candidates if other)


def _matches_simple(node: Node, kind: str, name: str) -> bool:
    if kind == ".":
        return name in node.classes
    if kind == "#":
        return node.attributes.get("id") == name
    return name in ("*", node.tag)


def _compile(selector: str) -> _Selector | None:
    """Compile tags, classes, ids, descendants and children; None for anything else."""
    text = selector.replace(":root", "html")
    if re.search(r"[:\[+~]", text):
        return None
    parts: list[tuple[str, tuple[tuple[str, str], ...]]] = []
    combinator = " "
    counts = {"#": 0, ".": 0, "": 0}
    for word in text.replace(">", " > ").split():
        if word == ">":
            combinator = ">"
            continue
        simples = tuple((m["kind"], m["name"]) for m in _COMPOUND.finditer(word))
        for kind, name in simples:
            counts[kind] += name != "*"
        parts.append((combinator, simples))
        combinator = " "
    return _Selector(tuple(parts), (counts["#"], counts["."], counts[""])) if parts else None


class Page:
    """A parsed page: its elements, its stylesheet, and each element's computed style."""

    def __init__(self, html: str) -> None:
        builder = _TreeBuilder()
        builder.feed(html)
        builder.close()
        self.root = builder.root
        self.sheet: Stylesheet = parse_stylesheet(
            "\n".join(node.text for node in self.root.walk() if node.tag == "style")
        )
        self._selectors = [
            (compiled, order, rule.declarations)
            for order, rule in enumerate(self.sheet.rules)
            if rule.media is None and (compiled := _compile(rule.selector))
        ]
        self._styles: dict[int, dict[str, str]] = {}

    def elements(self, *tags: str) -> list[Node]:
        """List the elements with one of these tags, in document order."""
        return [node for node in self.root.walk() if node.tag in tags]

    def visible_text(self) -> list[Node]:
        """List the elements that carry text of their own and are shown."""
        return [node for node in self._visible(self.root) if node.text.strip()]

    def _visible(self, node: Node) -> Iterator[Node]:
        if node.tag in _SILENT or self.style(node).get("display") == "none":
            return
        yield node
        for child in node.children:
            yield from self._visible(child)

    def style(self, node: Node) -> dict[str, str]:
        """Compute the declarations that apply to an element, inherited ones included."""
        known = self._styles.get(id(node))
        if known is not None:
            return known
        inherited = self.style(node.parent) if node.parent else {}
        style = {name: value for name, value in inherited.items() if name in _INHERITED}
        parent_size = to_px(inherited.get("font-size", "16px")) or 16.0
        matching = [entry for entry in self._selectors if entry[0].matches(node)]
        for _, _, declarations in sorted(matching, key=lambda e: (e[0].specificity, e[1])):
            style |= {name: self.sheet.resolve(value) for name, value in declarations.items()}
        inline = parse_declarations(node.attributes.get("style", ""))
        style |= {name: self.sheet.resolve(value) for name, value in inline.items()}
        for name, value in list(style.items()):
            if value == "inherit":
                style[name] = inherited.get(name, "")
        size = to_px(style.get("font-size", "16px"), em=parent_size)
        style["font-size"] = f"{size if size is not None else parent_size}px"
        self._styles[id(node)] = style
        return style

    def font_size(self, node: Node) -> float:
        """Return an element's font size in pixels."""
        return to_px(self.style(node)["font-size"]) or 16.0

    def colour(self, node: Node) -> Rgb:
        """Return the colour of an element's text."""
        return parse_colour(self.style(node).get("color", "black")) or (0.0, 0.0, 0.0)

    def background(self, node: Node) -> Rgb:
        """Return the colour behind an element's text: its own or the nearest parent's."""
        for candidate in (node, *node.ancestors()):
            style = self.style(candidate)
            for name in ("background-color", "background"):
                colour = parse_colour(style.get(name, ""))
                if colour:
                    return colour
        return _WHITE
