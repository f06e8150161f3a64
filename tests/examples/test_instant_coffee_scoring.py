import pytest

from examples.instant_coffee.briefs import Brief, default_paths, load_briefs
from examples.instant_coffee.colour import contrast, readable, require_colour
from examples.instant_coffee.css import parse_stylesheet, to_px
from examples.instant_coffee.design import Design, design_from_style
from examples.instant_coffee.dom import Page
from examples.instant_coffee.interview import accept_answers, open_questions
from examples.instant_coffee.pages import format_price, render_page
from examples.instant_coffee.refine import refine_design
from examples.instant_coffee.routing import route_brief
from examples.instant_coffee.scoring import Dimension, score_page

BRIEFS = load_briefs(default_paths())

GOOD = """<!doctype html><html><head>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root { --ink: #222222; --step: 16px; }
body { color: var(--ink); background: #ffffff; font-size: 1rem; line-height: 1.6; }
h1 { font-size: 3.0518rem; } h2 { font-size: 1.5625rem; }
p { max-width: 60ch; margin: var(--step) 0; }
section { padding-block: 48px; }
.button { min-height: 48px; padding: 8px 16px; background: #1d3557; color: #ffffff; }
@media (max-width: 40rem) { section { padding-block: 32px; } }
</style></head><body><section><h1>Title</h1><p>A text of a fair length that says what the page is
about, in words that can be read by anybody at all.</p><a class="button primary">Go</a></section>
<section><h2>More</h2><p>Another text.</p></section></body></html>"""


def render(brief: Brief, design: Design | None = None) -> tuple[str, Design]:
    kind = route_brief(brief).product_type
    facts = brief.facts | accept_answers(open_questions(brief, kind, {}), {})
    design = design or design_from_style(brief.style, kind)
    return render_page(brief, kind, facts, design), design


def dimension_of(html: str, name: Dimension) -> float:
    return score_page(html).dimensions[name]


def test_black_on_white_has_the_contrast_that_wcag_states() -> None:
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)
    assert contrast(require_colour("#777777"), (1, 1, 1)) == pytest.approx(4.48, abs=0.01)


def test_a_colour_is_adjusted_until_it_is_readable_on_every_background() -> None:
    grounds = ["#fbf7f1", "#f3ebe0"]

    moved = readable("#d9855b", grounds, 4.5)

    assert all(contrast(require_colour(moved), require_colour(g)) >= 4.5 for g in grounds)
    assert readable("#000000", grounds, 4.5) == "#000000"


def test_the_cascade_obeys_specificity_order_inheritance_and_variables() -> None:
    page = Page(
        "<style>:root{--a:#111111;--b:var(--a)} p{color:#222222} .x{color:var(--b)}"
        " p{color:#333333}"
        " div > p{font-size:2em} div{font-size:20px} /* p{color:red} */"
        " @media (max-width:9px){p{color:#444444}} p:hover{color:#555555} a{color:inherit}</style>"
        "<div><p class=x>one</p></div><p>two<a>three</a></p>"
    )
    one, two = page.elements("p")

    assert page.style(one)["color"] == "#111111"
    assert page.font_size(one) == 40
    assert page.style(two)["color"] == "#333333"
    assert page.style(page.elements("a")[0])["color"] == "#333333"


def test_media_queries_and_lengths_are_read() -> None:
    sheet = parse_stylesheet("@media (max-width: 1px) { a { gap: 1px } } @font-face { x: y }")

    assert sheet.media_queries == {"(max-width: 1px)"}
    assert to_px("1.5rem") == 24
    assert to_px("2em", em=10) == 20
    assert to_px("clamp(1rem, 4vw, 3rem)") == 48
    assert to_px("50%") is None
    assert to_px("0") == 0


def test_a_good_page_gets_the_full_score() -> None:
    score = score_page(GOOD, pass_mark=90)

    assert score.overall == 100
    assert score.suggestions == []
    assert score.passed


@pytest.mark.parametrize(
    ("dimension", "before", "after"),
    [
        ("visualHierarchy", "3.0518rem", "1.05rem"),
        ("visualHierarchy", "<h2>More</h2>", "<h1>More</h1>"),
        ("visualHierarchy", "<h2>More</h2>", "<h4>More</h4>"),
        ("colorHarmony", "--ink: #222222", "--ink: #bbbbbb"),
        ("colorHarmony", "background: #ffffff", "background: #ffe600"),
        ("spacingConsistency", "--step: 16px", "--step: 13px"),
        ("spacingConsistency", "padding-block: 48px", "padding-block: 8px"),
        ("alignment", "<p>A text", '<p style="text-align: right">A text'),
        ("alignment", "line-height: 1.6;", "line-height: 1.6; text-align: justify;"),
        ("readability", "60ch", "140ch"),
        ("readability", "line-height: 1.6", "line-height: 1.1"),
        ("readability", "font-size: 1rem", "font-size: 11px"),
        ("mobileAdaptation", 'name="viewport"', 'name="other"'),
        ("mobileAdaptation", "@media (max-width: 40rem)", "@supports (gap: 1px)"),
        ("mobileAdaptation", "section { padding", "section { width: 1180px; padding"),
        ("mobileAdaptation", "min-height: 48px", "min-height: 20px"),
    ],
)
def test_a_fault_lowers_its_own_dimension(dimension: Dimension, before: str, after: str) -> None:
    assert before in GOOD
    faulty = GOOD.replace(before, after)

    score = score_page(faulty)

    assert score.dimensions[dimension] < 100
    assert score.overall < 100
    assert any(suggestion.dimension == dimension for suggestion in score.suggestions)


def test_an_empty_page_is_scored() -> None:
    assert 0 <= score_page("").overall <= 100
    assert 0 <= score_page("<p>unclosed <b>tags").overall <= 100


def test_the_score_has_the_shape_that_the_column_carries() -> None:
    channel = score_page(render(BRIEFS["patchbox"])[0], pass_mark=90).as_channel()

    assert channel.keys() == {"overall", "dimensions", "suggestions", "passThreshold"}
    assert set(channel["dimensions"]) == {
        "visualHierarchy", "colorHarmony", "spacingConsistency",
        "alignment", "readability", "mobileAdaptation",
    }  # fmt: skip
    assert all(s["severity"] in ("info", "warning", "critical") for s in channel["suggestions"])


@pytest.mark.parametrize("stem", BRIEFS)
def test_each_brief_starts_below_the_threshold_and_is_refined_above_it(stem: str) -> None:
    brief = BRIEFS[stem]
    kind = route_brief(brief).product_type
    html, design = render(brief)
    first = best = score_page(html, 90)
    for _ in range(4):
        design, fixed = refine_design(design, kind, best, set())
        if not fixed:
            break
        best = score_page(render(brief, design)[0], 90)

    assert not first.passed
    assert best.passed
    assert best.overall > first.overall


def test_fixes_that_failed_are_not_tried_again() -> None:
    html, design = render(BRIEFS["kiln-and-clay"])
    score = score_page(html)

    _, fixed = refine_design(design, "ecommerce", score, {"colorHarmony"})

    assert fixed == []


def test_text_of_a_client_is_escaped() -> None:
    brief = BRIEFS["patchbox"].model_copy(update={"name": "<script>alert(1)</script>"})

    html, _ = render(brief)

    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_prices_carry_their_currency() -> None:
    assert format_price(28, "EUR") == "€28"
    assert format_price(3.6, "gbp") == "£3.60"
    assert format_price(1200, "SEK") == "1,200 SEK"
