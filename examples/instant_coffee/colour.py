"""Colour arithmetic: parsing, mixing, WCAG contrast, and moving a colour until it can be read."""

import colorsys
import re

Rgb = tuple[float, float, float]

_HEX = re.compile(r"^#([0-9a-f]{3}|[0-9a-f]{6})$", re.IGNORECASE)
_NAMED: dict[str, Rgb] = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}


def parse_colour(value: str) -> Rgb | None:
    """Read a hexadecimal or named CSS colour as three numbers from 0 to 1.

    Returns:
        The colour, or None where the value is no opaque colour.
    """
    text = value.strip().lower()
    if text in _NAMED:
        return _NAMED[text]
    found = _HEX.match(text)
    if not found:
        return None
    digits = found.group(1)
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    red, green, blue = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    return red, green, blue


def require_colour(value: str) -> Rgb:
    """Read a CSS colour, raising `ValueError` where it is none."""
    colour = parse_colour(value)
    if colour is None:
        raise ValueError(f"{value!r} is not a colour such as #1d3557")
    return colour


def to_hex(colour: Rgb) -> str:
    """Write a colour as #rrggbb."""
    return "#" + "".join(f"{round(min(1.0, max(0.0, part)) * 255):02x}" for part in colour)


def mix(first: str, second: str, share: float) -> str:
    """Blend `share` of the first colour into the second."""
    pairs = zip(require_colour(first), require_colour(second), strict=True)
    red, green, blue = (a * share + b * (1 - share) for a, b in pairs)
    return to_hex((red, green, blue))


def luminance(colour: Rgb) -> float:
    """Compute the relative luminance that WCAG 2 defines."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: Rgb, second: Rgb) -> float:
    """Compute the WCAG 2 contrast ratio of two colours, from 1 to 21."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def hue_saturation_lightness(colour: Rgb) -> tuple[float, float, float]:
    """Return hue in degrees, then saturation and lightness from 0 to 1."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*colour)
    return hue * 360, saturation, lightness


def from_hsl(hue: float, saturation: float, lightness: float) -> str:
    """Write a colour given by hue in degrees, saturation and lightness as #rrggbb."""
    return to_hex(colorsys.hls_to_rgb(hue / 360, lightness, saturation))


def chroma(colour: Rgb) -> float:
    """Measure how colourful a colour looks, from 0 (grey) to 1."""
    return max(colour) - min(colour)


def readable(value: str, grounds: list[str], ratio: float) -> str:
    """Move a colour's lightness, keeping its hue, until it reads on every ground.

    Args:
        value: The colour to move.
        grounds: The backgrounds it is put on.
        ratio: The contrast to reach on each.

    Returns:
        The nearest such colour; black or white where no lightness will do.
    """
    backs = [require_colour(ground) for ground in grounds]
    start = require_colour(value)
    if min(contrast(start, back) for back in backs) >= ratio:
        return value
    hue, saturation, lightness = hue_saturation_lightness(start)
    candidates = (abs(step) for step in range(101))
    by_distance = sorted((step / 100 for step in candidates), key=lambda at: abs(at - lightness))
    for level in by_distance:
        candidate = from_hsl(hue, saturation, level)
        if min(contrast(require_colour(candidate), back) for back in backs) >= ratio:
            return candidate
    black, white = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    on_black = min(contrast(black, back) for back in backs)
    return "#000000" if on_black >= min(contrast(white, back) for back in backs) else "#ffffff"
