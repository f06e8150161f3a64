"""Pages: a brief and a design in, one self-contained HTML file out."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from examples.instant_coffee.briefs import Brief, Font, Item, ProductType
from examples.instant_coffee.colour import mix
from examples.instant_coffee.design import Design

_STACKS: dict[Font, str] = {
    "serif": '"Iowan Old Style", "Palatino Linotype", "EB Garamond", Palatino, Georgia, serif',
    "sans": 'Inter, "Helvetica Neue", "Segoe UI", Roboto, Arial, sans-serif',
    "humanist": 'Seravek, "Gill Sans", "Open Sans", Ubuntu, Calibri, sans-serif',
    "slab": 'Rockwell, "Roboto Slab", "Bitter", "Zilla Slab", Georgia, serif',
    "mono": 'ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace',
    "display": 'Didot, "Bodoni MT", "Playfair Display", Baskerville, Georgia, serif',
}
_SYMBOLS = {"EUR": "€", "GBP": "£", "USD": "$", "JPY": "¥"}
_EDGES = ("left", "center", "right", "justify")
_FACT_LABELS = {
    "shipping": "Shipping",
    "hours": "Open",
    "cancellation": "Cancelling",
    "refresh": "Refreshed",
    "owner": "Looked after by",
    "contact": "Questions",
    "email": "E-mail",
    "location": "Based in",
    "date": "When",
    "reply_by": "Please reply by",
}


def render_page(
    brief: Brief, product_type: ProductType, facts: dict[str, str], design: Design
) -> str:
    """Render a brief as HTML.

    Args:
        brief: What the client wrote.
        product_type: Which template to use.
        facts: The brief's facts and the answers of the interview.
        design: The tokens to render with.

    Returns:
        A whole page, its CSS inside.
    """
    template = _environment().get_template(f"{product_type}.html.j2")
    shown = [
        (_FACT_LABELS.get(name, name.replace("_", " ").capitalize()), value)
        for name, value in facts.items()
        if name not in ("currency", "call_to_action")
    ]
    return template.render(
        brief=brief,
        product_type=product_type,
        facts=facts,
        shown_facts=shown,
        design=design,
        tokens=_tokens(design),
        fonts={name: Markup(stack) for name, stack in _STACKS.items()},  # noqa: S704 - constants
        edge=lambda index: _edge(design, index),
        money=lambda amount: format_price(amount, facts.get("currency", "EUR")),
        chart=line_chart,
    )


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _tokens(design: Design) -> dict[str, Any]:
    palette = design.palette
    names = ("caption", "body", "lead", "small-heading", "heading", "display")
    return {
        "colours": {
            **{name.replace("_", "-"): value for name, value in palette.model_dump().items()},
            "border": mix(palette.text, palette.background, 0.14),
            "soft": mix(palette.accent, palette.background, 0.1),
            "tint": mix(palette.accent, palette.background, 0.32),
        },
        "sizes": {
            name: f"{round(size / 16, 4):g}rem"
            for name, size in zip(names, design.sizes, strict=True)
        },
        "space": [f"{round(step / 16, 4):g}rem" for step in design.space],
    }


def _edge(design: Design, index: int) -> str:
    return _EDGES[index % len(_EDGES)] if design.align == "mixed" else design.align


def format_price(amount: float, currency: str) -> str:
    """Write a price with its currency's sign, or its code where it has none."""
    code = currency.strip().upper()[:3]
    number = f"{amount:,.0f}" if amount == int(amount) else f"{amount:,.2f}"
    return f"{_SYMBOLS[code]}{number}" if code in _SYMBOLS else f"{number} {code}"


def line_chart(items: list[Item], width: int = 600, height: int = 200) -> dict[str, str]:
    """Compute the SVG path of a line through the items' values, and of the area under it."""
    values = [item.value or 0.0 for item in items]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    low, span = low - span * 0.15, span * 1.3
    step = width / max(1, len(values) - 1)
    points = [
        (round(at * step, 1), round(height - (value - low) / span * height, 1))
        for at, value in enumerate(values)
    ]
    line = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
    last = points[-1]
    return {
        "line": line,
        "area": f"{line} L{width} {height} L0 {height} Z",
        "x": f"{last[0] / width * 100:.2f}",
        "y": f"{last[1] / height * 100:.2f}",
    }
