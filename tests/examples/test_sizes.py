"""How long an example may be: what would be longer belongs in the package, or is too clever."""

from __future__ import annotations

import pytest

from tests.support.readme import ROOT

CODE = {".py", ".html", ".css", ".js", ".j2"}


def lines(folder: str, *data: str) -> int:
    """The lines of an example's code, without the folders of its data."""
    example = ROOT / "examples" / folder
    ours = [each for each in example.rglob("*") if each.suffix in CODE]
    code = [each for each in ours if not any(each.is_relative_to(example / d) for d in data)]
    return sum(len(each.read_text("utf-8").splitlines()) for each in code)


@pytest.mark.parametrize(
    "example",
    [("genesis", "story/words"), ("tech_spec", "fixtures", "catalogue")],
    ids=lambda example: example[0],
)
def test_an_application_has_at_most_3000_lines_without_its_data(example: tuple[str, ...]) -> None:
    assert lines(*example) <= 3000
