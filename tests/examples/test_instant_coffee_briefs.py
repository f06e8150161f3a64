from pathlib import Path

import pytest
import yaml

from examples.instant_coffee.briefs import BriefError, default_paths, load_brief, load_briefs
from examples.instant_coffee.interview import accept_answers, open_questions
from examples.instant_coffee.routing import route_brief

TYPES = {
    "half-acre-seeds": "ecommerce",
    "ines-moreau": "card",
    "kiln-and-clay": "ecommerce",
    "ledgerline": "landing",
    "linnea-turns-seven": "invitation",
    "maya-and-jonas": "invitation",
    "north-lane-barbers": "booking",
    "patchbox": "landing",
    "river-watch": "dashboard",
    "stillwater-sauna": "booking",
    "three-ovens": "dashboard",
    "tobias-okafor": "card",
}


def write_changed(tmp_path: Path, **changes: object) -> Path:
    content = yaml.safe_load(default_paths()[0].read_text(encoding="utf-8"))
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(content | changes, allow_unicode=True), encoding="utf-8")
    return path


def test_twelve_briefs_come_with_the_example() -> None:
    assert {path.stem for path in default_paths()} == set(TYPES)


@pytest.mark.parametrize(("stem", "expected"), TYPES.items())
def test_each_brief_is_routed_to_its_kind_with_evidence(stem: str, expected: str) -> None:
    (path,) = [path for path in default_paths() if path.stem == stem]

    route = route_brief(load_brief(path))

    assert route.product_type == expected
    assert route.evidence
    assert route.skill_id.endswith(route.complexity)


def test_each_brief_has_open_questions_with_defaults() -> None:
    for brief in load_briefs(default_paths()).values():
        questions = open_questions(brief, route_brief(brief).product_type, {})
        assert questions
        assert accept_answers(questions, {}).keys() == {q["field"] for q in questions}


def test_the_briefs_cover_all_complexities() -> None:
    found = {route_brief(brief).complexity for brief in load_briefs(default_paths()).values()}

    assert found == {"simple", "medium", "complex"}


def test_a_reference_that_is_not_copied_is_style_only() -> None:
    brief = load_briefs(default_paths())["kiln-and-clay"]

    def mode(reference: str | None) -> str | None:
        return route_brief(
            brief.model_copy(update={"style_reference": reference})
        ).style_reference_mode

    assert mode("Like a catalogue, but not a copy of one.") == "style_only"
    assert mode("Match our old site exactly.") == "full_mimic"
    assert mode(None) is None


def test_a_brief_that_says_nothing_specific_becomes_a_landing_page(tmp_path: Path) -> None:
    story = {"kind": "story", "heading": "Hm", "text": "Words."}
    path = write_changed(tmp_path, request="Something nice.", tagline="Nice", sections=[story])

    route = route_brief(load_brief(path))

    assert route.product_type == "landing"
    assert route.evidence == ("nothing more specific was found",)


def test_a_missing_answer_is_asked_again() -> None:
    brief = load_briefs(default_paths())["kiln-and-clay"].model_copy(update={"defaults": {}})
    questions = open_questions(brief, "ecommerce", {})

    assert accept_answers(questions, {"shipping": "  "}) == {}
    assert accept_answers(questions, "nonsense") == {}
    assert accept_answers(questions, {"shipping": " EU "}) == {"shipping": "EU"}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BriefError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_brief(tmp_path / "nowhere.yaml")


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: [unclosed\nstyle: x", encoding="utf-8")

    with pytest.raises(BriefError, match=r"broken\.yaml: is not valid YAML: .* line 2"):
        load_brief(path)


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "just words"])
def test_yaml_that_is_not_a_mapping_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "list.yaml"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(BriefError, match="a brief is a mapping"):
        load_brief(path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00name")

    with pytest.raises(BriefError, match="is not UTF-8"):
        load_brief(path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": ""}, "name"),
        ({"hero": None}, "hero"),
        ({"sections": []}, "sections"),
        ({"sections": [{"kind": "table", "heading": "T", "columns": ["a"], "rows": [["1", "2"]]}]},
         r"sections\.0"),
        ({"sections": [{"kind": "line", "heading": "T", "items": [{"title": "Mon"}]}]},
         r"sections\.0"),
        ({"colour": "red"}, "colour"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict[str, object], named: str) -> None:
    with pytest.raises(BriefError, match=rf"changed\.yaml: {named}"):
        load_brief(write_changed(tmp_path, **changes))


def test_a_palette_takes_only_colours(tmp_path: Path) -> None:
    path = write_changed(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace("'#3f7d3a'", "red;}body{x:y"), "utf-8")

    with pytest.raises(BriefError, match=r"style\.palette\.accent"):
        load_brief(path)


def test_two_briefs_of_one_name_are_refused(tmp_path: Path) -> None:
    first = write_changed(tmp_path)
    (tmp_path / "other").mkdir()
    second = write_changed(tmp_path / "other")

    with pytest.raises(BriefError, match="another brief is named 'changed' too"):
        load_briefs([first, second])
