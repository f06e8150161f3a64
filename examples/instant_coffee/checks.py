"""The rules that a page is judged by; each reads the HTML and CSS and says what it costs."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import log

from examples.instant_coffee.colour import (
    Rgb,
    chroma,
    contrast,
    hue_saturation_lightness,
    to_hex,
)
from examples.instant_coffee.css import to_px
from examples.instant_coffee.dom import Node, Page

GRID = 4
_RATIOS = (1.125, 1.2, 1.25, 1.333, 1.414, 1.5, 1.618)
_SPACING = (
    "margin", "margin-top", "margin-right", "margin-bottom", "margin-left", "margin-block",
    "padding", "padding-top", "padding-right", "padding-bottom", "padding-left", "padding-block",
    "padding-inline", "gap", "row-gap", "column-gap",
)  # fmt: skip
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_CELLS = frozenset({"dd", "dt", "td", "th"})
_SENTENCE = re.compile(r"[.!?…]+(?:\s|$)")


@dataclass(frozen=True)
class Finding:
    """One broken rule: what it costs of 100 points, and where."""

    cost: float
    message: str
    location: str | None = None
    fixable: bool = True


Check = Callable[[Page], list[Finding]]


def visual_hierarchy(page: Page) -> list[Finding]:
    """Check headings, the step from text to title, and that sizes form one scale."""
    return [*_heading_structure(page), *_type_scale(page)]


def _heading_structure(page: Page) -> Iterator[Finding]:
    headings = page.elements(*_HEADINGS)
    levels = [int(node.tag[1]) for node in headings]
    if levels.count(1) != 1:
        yield Finding(
            30, f"The page has {levels.count(1)} main headings, not one.", "h1", fixable=False
        )
    for before, after, node in zip(levels, levels[1:], headings[1:], strict=False):
        if after > before + 1:
            message = f"Heading level {before} is followed by level {after}."
            yield Finding(10, message, node.label, fixable=False)
            break
    actions = [n for n in page.root.walk() if "primary" in n.classes]
    if len(actions) != 1:
        message = f"{len(actions)} primary actions compete; one should lead."
        yield Finding(8, message, ".primary", fixable=False)


def _type_scale(page: Page) -> Iterator[Finding]:
    sizes = sorted({round(page.font_size(node), 1) for node in page.visible_text()})
    body = _body_size(page)
    title = max((page.font_size(node) for node in page.elements("h1")), default=body)
    if title < 2 * body:
        cost = 30 * min(1.0, (2 * body - title) / body) + 5
        message = f"The title ({title:g}px) hardly stands out from the text ({body:g}px)."
        yield Finding(cost, message, "h1")
    elif title > 5 * body:
        yield Finding(
            15, f"The title ({title:g}px) shouts at {title / body:.1f} times the text.", "h1"
        )
    strayed = min(_deviation(sizes, body, ratio) for ratio in _RATIOS)
    if strayed > 0.05:
        listed = ", ".join(f"{size:g}" for size in sizes)
        message = f"The sizes {listed}px follow no common ratio."
        yield Finding(40 * min(1.0, strayed / 0.25), message, "font-size")
    close = sum(1 for a, b in pairwise(sizes) if b / a < 1.1)
    if close:
        yield Finding(8 * close, f"{close} pairs of sizes are too close to differ.", "font-size")
    if len(sizes) > 7:
        yield Finding(5 * (len(sizes) - 7), f"{len(sizes)} font sizes are in use.", "font-size")


def _deviation(sizes: list[float], body: float, ratio: float) -> float:
    """Measure how far sizes lie from whole steps of a scale, from 0 to 0.5 of a step."""
    steps = [log(size / body) / log(ratio) for size in sizes]
    return sum(abs(step - round(step)) for step in steps) / max(1, len(steps))


def _body_size(page: Page) -> float:
    lengths: Counter[float] = Counter()
    for node in page.elements("p", "li", "dd", "td"):
        lengths[round(page.font_size(node), 2)] += len(node.all_text())
    return lengths.most_common(1)[0][0] if lengths else 16.0


def colour_harmony(page: Page) -> list[Finding]:
    """Check contrast of all text, the number of hues, and that grounds are calm."""
    return [*_contrast(page), *_grounds(page), *_hues(page)]


def _contrast(page: Page) -> Iterator[Finding]:
    failing: dict[tuple[str, str], tuple[float, float, int, str]] = {}
    total = 0
    for node in page.visible_text():
        length = len(node.text.strip())
        total += length
        front, back = page.colour(node), page.background(node)
        ratio, needed = contrast(front, back), _needed_contrast(page, node)
        if ratio < needed:
            key = (to_hex(front), to_hex(back))
            known = failing.get(key, (ratio, needed, 0, node.label))
            failing[key] = (ratio, max(needed, known[1]), known[2] + length, known[3])
    for (front_hex, back_hex), (ratio, needed, length, label) in failing.items():
        cost = 6 + 70 * min(1.0, length / max(1, total)) * min(1.0, (needed - ratio) / 2)
        message = f"{front_hex} on {back_hex} has a contrast of {ratio:.1f}:1, too low to read."
        yield Finding(cost, message, label)


def _needed_contrast(page: Page, node: Node) -> float:
    size = page.font_size(node)
    bold = page.style(node).get("font-weight", "400") in ("600", "700", "800", "bold")
    return 3.0 if size >= 24 or (bold and size >= 18.66) else 4.5


def _grounds(page: Page) -> Iterator[Finding]:
    carried: Counter[Rgb] = Counter()
    for node in page.visible_text():
        carried[page.background(node)] += len(node.text.strip())
    for colour, length in sorted(carried.items()):
        # One bright band or button is an accent; a ground that carries much of the text is not.
        if chroma(colour) > 0.45 and length > 0.2 * carried.total():
            hue, _, _ = hue_saturation_lightness(colour)
            message = f"{to_hex(colour)} is loud for a ground (hue {hue:.0f}°)."
            yield Finding(18, message, "background")


def _hues(page: Page) -> Iterator[Finding]:
    hues: list[float] = []
    for node in page.visible_text():
        for colour in (page.colour(node), page.background(node)):
            if chroma(colour) < 0.25:
                continue
            hue = hue_saturation_lightness(colour)[0]
            if all(min(abs(hue - other), 360 - abs(hue - other)) > 30 for other in hues):
                hues.append(hue)
    if len(hues) > 3:
        cost = 8.0 * (len(hues) - 3)
        yield Finding(cost, f"{len(hues)} different hues compete; three are plenty.", "color")


def spacing_consistency(page: Page) -> list[Finding]:
    """Check that distances are multiples of a base unit, few, and roomy between sections."""
    values = Counter(_distances(page))
    findings = []
    odd = sorted(value for value in values if value % GRID)
    if odd:
        share = sum(values[value] for value in odd) / values.total()
        listed = ", ".join(f"{value:g}" for value in odd[:6])
        message = f"Distances of {listed}px are no multiples of {GRID}px."
        findings.append(Finding(10 + 60 * share, message, "margin, padding, gap"))
    if len(values) > 10:
        message = f"{len(values)} different distances are in use."
        findings.append(Finding(3.0 * (len(values) - 10), message, "margin, padding, gap"))
    room = [
        to_px(page.style(node).get("padding-block", "0").split()[0])
        for node in page.elements("section")
    ]
    tight = [value for value in room if value is not None and value < 32]
    if tight:
        message = f"Sections have only {min(tight):g}px of room above and below."
        findings.append(Finding(12, message, "section"))
    return findings


def _distances(page: Page) -> Iterator[float]:
    for _, _, value in page.sheet.values(*_SPACING):
        if "(" in value:
            continue
        for part in value.split():
            length = to_px(part)
            if length:
                yield round(abs(length), 2)


def alignment(page: Page) -> list[Finding]:
    """Check that text keeps to one edge and columns to one width."""
    edges: Counter[str] = Counter()
    for node in page.visible_text():
        if _is_control(node):
            continue
        edges[page.style(node).get("text-align", "left")] += len(node.text.strip())
    findings = []
    strays = 1 - (max(edges.values(), default=1) / max(1, edges.total()))
    if strays > 0.1:
        names = " and ".join(sorted(edges))
        message = f"Text is set {names}: {strays:.0%} of it leaves the main edge."
        findings.append(Finding(15 + 70 * strays, message, "text-align"))
    if edges["justify"]:
        cost = 15 + 15 * edges["justify"] / edges.total()
        message = "Justified text has uneven gaps between its words."
        findings.append(Finding(cost, message, "text-align"))
    widths = {page.style(node).get("max-width") for node in _wraps(page)}
    if len(widths) > 2:
        message = f"Columns have {len(widths)} different widths."
        findings.append(Finding(6.0 * len(widths), message, ".wrap", fixable=False))
    return findings


def _is_control(node: Node) -> bool:
    # Cells and buttons are aligned by what they hold, not by the page's edge.
    chain = (node, *node.ancestors())
    return any(one.tag in _CELLS or "button" in one.classes for one in chain)


def _wraps(page: Page) -> list[Node]:
    return [node for node in page.root.walk() if "wrap" in node.classes]


def readability(page: Page) -> list[Finding]:
    """Check size, line length, line height and the length of sentences."""
    findings = []
    body = _body_size(page)
    if body < 16:
        findings.append(Finding(12 + 6 * (16 - body), f"Text of {body:g}px is small.", "p"))
    smallest = min((page.font_size(node) for node in page.visible_text()), default=16.0)
    if smallest < 12:
        findings.append(Finding(10, f"Some text is only {smallest:g}px.", "font-size"))
    paragraphs = [node for node in page.elements("p") if len(node.all_text()) > 80]
    longest = max((_line_length(page, node) for node in paragraphs), default=60.0)
    if longest > 75:
        message = f"Lines run to {longest:.0f} characters; 45 to 75 read best."
        findings.append(Finding(min(35.0, 5 + (longest - 75) * 0.6), message, "p"))
    heights = [_line_height(page, node) for node in paragraphs]
    if heights and not all(1.4 <= height <= 1.9 for height in heights):
        worst = max(heights, key=lambda height: abs(height - 1.6))
        message = f"A line height of {worst:g} sets lines too close or too far apart."
        findings.append(Finding(20, message, "p"))
    findings += _sentences(page)
    return findings


def _line_length(page: Page, node: Node) -> float:
    """Estimate the characters of a line by the narrowest width around an element."""
    size = page.font_size(node)
    lengths = []
    for one in (node, *node.ancestors()):
        style = page.style(one)
        for name in ("max-width", "width"):
            value = style.get(name, "")
            if value.endswith("ch"):
                lengths.append(float(value[:-2]) * page.font_size(one) / size)
            elif length := to_px(value, page.font_size(one)):
                lengths.append(length / (size * 0.5))
    return min(lengths, default=140.0)


def _line_height(page: Page, node: Node) -> float:
    try:
        return float(page.style(node).get("line-height", "1.2"))
    except ValueError:
        return 1.2


def _sentences(page: Page) -> Iterator[Finding]:
    for node in page.elements("p"):
        for sentence in _SENTENCE.split(node.all_text()):
            words = len(sentence.split())
            if words > 32:
                message = f"A sentence of {words} words: “{sentence[:50].strip()}…”"
                yield Finding(4, message, node.label, fixable=False)


def mobile_adaptation(page: Page) -> list[Finding]:
    """Check the viewport, media queries, fluid widths and targets large enough to touch."""
    findings = []
    viewports = [n for n in page.elements("meta") if n.attributes.get("name") == "viewport"]
    if not any("width=device-width" in n.attributes.get("content", "") for n in viewports):
        findings.append(Finding(35, "No viewport: telephones show a shrunken page.", "head"))
    if not any("width" in query for query in page.sheet.media_queries):
        findings.append(Finding(15, "No media query adapts the layout.", "style"))
    wide = [
        rule.selector
        for rule, _, value in page.sheet.values("width", "min-width")
        if (to_px(value) or 0) > 360
    ]
    if wide:
        message = "A fixed width is wider than a telephone."
        findings.append(Finding(25, message, ", ".join(wide[:3])))
    rigid = [
        rule.selector
        for rule, _, value in page.sheet.values("grid-template-columns")
        if "auto-fit" not in value and len(value.split()) > 1 and not _adapts(page, rule.selector)
    ]
    if rigid:
        findings.append(Finding(10, "Columns stay side by side at any width.", rigid[0]))
    small = {
        node.label
        for node in page.root.walk()
        if "button" in node.classes and (to_px(page.style(node).get("min-height", "0")) or 0) < 44
    }
    if small:
        findings.append(Finding(10, "Buttons are under 44px high.", ", ".join(sorted(small))))
    return findings


def _adapts(page: Page, selector: str) -> bool:
    return any(
        rule.media and rule.selector == selector and "grid-template-columns" in rule.declarations
        for rule in page.sheet.rules
    )
