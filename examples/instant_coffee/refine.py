"""Refinement: fixes for what the score found, keyed by the dimension of the suggestion."""

from collections.abc import Callable

from examples.instant_coffee.briefs import Palette, ProductType
from examples.instant_coffee.checks import GRID
from examples.instant_coffee.colour import (
    chroma,
    contrast,
    from_hsl,
    hue_saturation_lightness,
    mix,
    readable,
    require_colour,
)
from examples.instant_coffee.design import (
    Design,
    modular_scale,
    natural_alignment,
    spacing_steps,
)
from examples.instant_coffee.scoring import AestheticScore, Dimension

Fix = Callable[[Design, ProductType], Design]

_BODY, _DISPLAY = 1, 5
_FIXES_A_ROUND = 2
_COMFORT = 4.8  # a little above the 4.5 that WCAG asks for, so that tints of a ground pass too


def refine_design(
    design: Design, product_type: ProductType, score: AestheticScore, tried: set[str]
) -> tuple[Design, list[Dimension]]:
    """Fix the worst dimensions that have a fix and were not tried in vain.

    Args:
        design: The design of the best page so far.
        product_type: What kind of page it is.
        score: The score of that page.
        tried: Dimensions whose fix did not help this design.

    Returns:
        The changed design and the dimensions that were fixed; none where nothing is left to do.
    """
    fixable = {s.dimension for s in score.suggestions if s.autoFixable and s.severity != "info"}
    worst = sorted(fixable - tried, key=lambda name: score.dimensions[name])[:_FIXES_A_ROUND]
    for dimension in worst:
        design = FIXES[dimension](design, product_type)
    return design, worst


def fix_hierarchy(design: Design, product_type: ProductType) -> Design:
    """Put all sizes on one modular scale."""
    del product_type
    base = min(19.0, max(16.0, design.sizes[_BODY]))
    wanted = (design.sizes[_DISPLAY] / base) ** 0.2
    ratio = min((1.2, 1.25, 1.333), key=lambda known: abs(known - wanted))
    return design.model_copy(update={"sizes": modular_scale(base, ratio)})


def fix_colours(design: Design, product_type: ProductType) -> Design:
    """Calm loud grounds, then move text and accent until they can be read, keeping their hue."""
    del product_type
    old = design.palette
    background, surface = _calm(old.background, 0.06), _calm(old.surface, 0.12)
    grounds = [background, surface, mix(old.accent, background, 0.1)]
    text = readable(old.text, grounds, 9.0)
    accent = readable(old.accent, grounds, _COMFORT)
    palette = Palette(
        background=background,
        surface=surface,
        text=text,
        muted=readable(old.muted, grounds, _COMFORT),
        accent=accent,
        on_accent=readable(old.on_accent, [accent], _COMFORT),
    )
    return design.model_copy(update={"palette": palette})


def _calm(value: str, tint: float) -> str:
    colour = require_colour(value)
    if chroma(colour) <= 0.45:
        return value
    hue, saturation, lightness = hue_saturation_lightness(colour)
    light = contrast(colour, (0.0, 0.0, 0.0)) >= contrast(colour, (1.0, 1.0, 1.0))
    return from_hsl(hue, min(saturation, 0.9), (1 - tint) if light else min(lightness, 0.1 + tint))


def fix_spacing(design: Design, product_type: ProductType) -> Design:
    """Snap every distance to the grid, never below the roomy steps of an 8px unit."""
    del product_type
    roomy = spacing_steps(8)
    snapped = tuple(
        max(least, round(step / GRID) * GRID)
        for step, least in zip(design.space, roomy, strict=True)
    )
    calmed = tuple(min(step, 2 * least) for step, least in zip(snapped, roomy, strict=True))
    return design.model_copy(update={"space": calmed})


def fix_alignment(design: Design, product_type: ProductType) -> Design:
    """Bring all text back to the edge that suits the product."""
    return design.model_copy(update={"align": natural_alignment(product_type)})


def fix_readability(design: Design, product_type: ProductType) -> Design:
    """Set a comfortable measure, line height and text size."""
    changes = {"measure": min(design.measure, 64), "line_height": 1.6}
    changed = design.model_copy(update=changes)
    if design.sizes[_BODY] < 16 or min(design.sizes) < 12:
        changed = fix_hierarchy(changed, product_type)
    return changed


def fix_mobile(design: Design, product_type: ProductType) -> Design:
    """Let the layout adapt: viewport, fluid widths, media queries, touchable buttons."""
    del product_type
    return design.model_copy(update={"mobile": True})


FIXES: dict[Dimension, Fix] = {
    "visualHierarchy": fix_hierarchy,
    "colorHarmony": fix_colours,
    "spacingConsistency": fix_spacing,
    "alignment": fix_alignment,
    "readability": fix_readability,
    "mobileAdaptation": fix_mobile,
}
