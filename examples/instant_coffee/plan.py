"""The plan of a page: a checklist, a standard outline or an extended one."""

from examples.instant_coffee.briefs import Brief, ProductType, Section
from examples.instant_coffee.routing import DocTier


def write_plan(
    brief: Brief, product_type: ProductType, tier: DocTier, facts: dict[str, str]
) -> str:
    """Expand a brief into the document that the writer works from.

    Args:
        brief: What the client wrote.
        product_type: What kind of page it is.
        tier: How much to say: a checklist names the parts, a standard plan says what is in them,
            an extended one adds each item.
        facts: What the interview settled.

    Returns:
        The plan as text.
    """
    lines = [f"{brief.name}, {product_type}: {brief.hero.heading}"]
    for section in brief.sections:
        lines.append(f"- {section.heading} ({section.kind})")
        if tier != "checklist":
            lines.append(f"  {_contents(section)}")
        if tier == "extended":
            lines += [f"  * {item.title}" for item in section.items]
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in facts.items()]
    return "\n".join(lines)


def _contents(section: Section) -> str:
    if section.kind == "story":
        return f"{len(section.text.split())} words"
    if section.kind == "table":
        return f"{len(section.rows)} rows by {len(section.columns)} columns"
    return f"{len(section.items)} items"
