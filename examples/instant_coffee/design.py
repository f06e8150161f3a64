"""Design tokens: the numbers and colours that a page is rendered with and refinement moves."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from examples.instant_coffee.briefs import Font, Palette, ProductType, Style

Align = Literal["left", "center", "justify", "mixed"]
# Steps of the scale, in powers of the ratio: caption, body, lead, heading 3, heading 2, display.
_POWERS = (-1, 0, 1, 2, 3, 5)
_STEPS = (0.5, 1, 2, 3, 6, 10)
_CENTRED = frozenset({"card", "invitation"})


class Design(BaseModel):
    """Everything about a page's looks that is decided by numbers."""

    model_config = ConfigDict(frozen=True)

    palette: Palette
    sizes: tuple[float, ...]
    space: tuple[float, ...]
    measure: int
    line_height: float
    align: Align
    mobile: bool
    heading_font: Font
    body_font: Font
    radius: int


def modular_scale(base: float, ratio: float) -> tuple[float, ...]:
    """Compute the six type sizes of a modular scale, in pixels."""
    return tuple(round(base * ratio**power, 2) for power in _POWERS)


def spacing_steps(unit: float) -> tuple[float, ...]:
    """Compute the six spacing steps of a base unit, in pixels."""
    return tuple(round(unit * step, 2) for step in _STEPS)


def natural_alignment(product_type: ProductType) -> Align:
    """Say how text is set where the brief has no wish: cards and invitations are centred."""
    return "center" if product_type in _CENTRED else "left"


def design_from_style(style: Style, product_type: ProductType) -> Design:
    """Take the client's wishes as they are, bad ones included."""
    sizes = style.type.sizes
    spacing = style.spacing
    return Design(
        palette=style.palette,
        sizes=tuple(sizes) if sizes else modular_scale(style.type.base, style.type.ratio),
        space=tuple(spacing) if spacing else spacing_steps(style.unit),
        measure=style.measure,
        line_height=style.type.line_height,
        align=style.align or natural_alignment(product_type),
        mobile=style.mobile,
        heading_font=style.type.heading,
        body_font=style.type.body,
        radius=style.radius,
    )
