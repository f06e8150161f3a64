"""Product briefs: what a client wrote, validated, and the loader that names what is wrong."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Hex = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$", to_lower=True)]
ProductType = Literal["ecommerce", "booking", "dashboard", "landing", "card", "invitation"]
SectionKind = Literal[
    "bars", "details", "faq", "features", "line", "links", "metrics", "prices",
    "products", "quotes", "services", "slots", "steps", "story", "table", "timeline",
]  # fmt: skip
Font = Literal["serif", "sans", "humanist", "slab", "mono", "display"]

BRIEFS = Path(__file__).parent / "briefs"


class BriefError(ValueError):
    """A brief that cannot be read; the message names the file and the field."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Item(_Strict):
    """One product, service, feature, question or figure of a section."""

    title: Line
    text: str = Field(default="", max_length=1000)
    price: float | None = Field(default=None, ge=0)
    note: str = Field(default="", max_length=120)
    motif: str = Field(default="", max_length=20)
    value: float | None = None


class Section(_Strict):
    """One part of the page, of a kind that decides how it is laid out."""

    kind: SectionKind
    heading: Line
    text: str = Field(default="", max_length=2000)
    items: list[Item] = Field(default_factory=list, max_length=60)
    columns: list[Line] = Field(default_factory=list, max_length=8)
    rows: list[list[str]] = Field(default_factory=list, max_length=100)

    @model_validator(mode="after")
    def _has_its_content(self) -> Self:
        if self.kind == "table":
            if not self.columns or not self.rows:
                raise ValueError("a table needs columns and rows")
            if any(len(row) != len(self.columns) for row in self.rows):
                raise ValueError(f"every row of the table needs {len(self.columns)} cells")
        elif self.kind == "story":
            if not self.text:
                raise ValueError("a story needs text")
        elif not self.items:
            raise ValueError(f"a section of kind {self.kind!r} needs items")
        if self.kind in ("bars", "line") and any(item.value is None for item in self.items):
            raise ValueError("every item of a chart needs a value")
        return self


class Palette(_Strict):
    """The six colours that a page is painted with."""

    background: Hex
    surface: Hex
    text: Hex
    muted: Hex
    accent: Hex
    on_accent: Hex


class TypeStyle(_Strict):
    """Fonts and sizes: a base and a ratio, or six sizes from caption to display."""

    heading: Font = "sans"
    body: Font = "sans"
    base: float = Field(default=17, ge=8, le=28)
    ratio: float = Field(default=1.25, ge=1.05, le=1.7)
    sizes: list[float] | None = Field(default=None, min_length=6, max_length=6)
    line_height: float = Field(default=1.6, ge=0.9, le=2.5)


class Style(_Strict):
    """How the client wants the page to look, good choices and bad ones alike."""

    palette: Palette
    type: TypeStyle = TypeStyle()
    spacing: list[float] | None = Field(default=None, min_length=6, max_length=6)
    unit: float = Field(default=8, ge=2, le=16)
    measure: int = Field(default=64, ge=20, le=200)
    align: Literal["left", "center", "justify", "mixed"] | None = None
    mobile: bool = True
    radius: int = Field(default=10, ge=0, le=40)


class Hero(_Strict):
    """The first screen: a line that says it, a sentence that explains it, one thing to do."""

    eyebrow: Line
    heading: Line
    text: Text
    action: Line
    panel: Section | None = None


class Brief(_Strict):
    """A whole product brief."""

    name: Line
    tagline: Line
    request: Text
    product_type: ProductType | None = None
    style_reference: str | None = Field(default=None, max_length=500)
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")] = "en"
    style: Style
    hero: Hero
    sections: list[Section] = Field(min_length=1, max_length=20)
    facts: dict[str, Line] = Field(default_factory=dict)
    defaults: dict[str, Line] = Field(default_factory=dict)
    closing: Line

    @field_validator("facts", "defaults", mode="before")
    @classmethod
    def _facts_are_text(cls, value: object) -> object:
        # YAML reads `reply_by: 2026-05-01` as a date, and a client means the words.
        return {k: str(v) for k, v in value.items()} if isinstance(value, dict) else value


def load_brief(path: Path) -> Brief:
    """Read and validate one brief.

    Args:
        path: A YAML file.

    Returns:
        The brief.

    Raises:
        BriefError: The file is missing, is not YAML, or a field is wrong; the message says which.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BriefError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BriefError(f"{path}: is not UTF-8 text ({error.reason})") from error
    except yaml.YAMLError as error:
        raise BriefError(f"{path}: is not valid YAML: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise BriefError(f"{path}: a brief is a mapping with name, request, style, hero, sections")
    try:
        return Brief.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'brief'}: {problem['msg']}"
            for problem in error.errors()[:5]
        )
        raise BriefError(f"{path}: {problems}") from error


def load_briefs(paths: list[Path]) -> dict[str, Brief]:
    """Read several briefs, by the stem of their file; all are checked before any is returned.

    Raises:
        BriefError: A brief is wrong, or two files have the same stem and so the same session.
    """
    briefs: dict[str, Brief] = {}
    for path in paths:
        if path.stem in briefs:
            raise BriefError(f"{path}: another brief is named {path.stem!r} too; rename one")
        briefs[path.stem] = load_brief(path)
    return briefs


def default_paths() -> list[Path]:
    """List the briefs that come with the example."""
    return sorted(BRIEFS.glob("*.yaml"))


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
