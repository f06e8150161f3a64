"""The interview: what a page of a kind has to know, and what a brief leaves open."""

from typing import TypedDict

from examples.instant_coffee.briefs import Brief, ProductType

MAX_ANSWER = 200

_FACTS: dict[ProductType, dict[str, str]] = {
    "ecommerce": {
        "currency": "Which currency are the prices in (EUR, GBP, USD …)?",
        "shipping": "Where do you ship, and how fast?",
    },
    "booking": {
        "hours": "When are you open?",
        "cancellation": "Until when can a booking be cancelled?",
    },
    "dashboard": {
        "refresh": "How often are the figures refreshed?",
        "owner": "Who looks after the figures?",
    },
    "landing": {
        "call_to_action": "What should the main button say?",
        "contact": "Where do questions go?",
    },
    "card": {
        "email": "Which e-mail address may be shown?",
        "location": "Where are you based?",
    },
    "invitation": {
        "date": "When does it take place?",
        "reply_by": "By when should guests reply?",
    },
}


class Question(TypedDict):
    """One question of the interview."""

    field: str
    question: str
    default: str | None


def open_questions(
    brief: Brief, product_type: ProductType, answers: dict[str, str]
) -> list[Question]:
    """List what neither the brief nor the answers so far decide."""
    return [
        Question(field=field, question=question, default=brief.defaults.get(field))
        for field, question in _FACTS[product_type].items()
        if field not in brief.facts and field not in answers
    ]


def accept_answers(questions: list[Question], given: object) -> dict[str, str]:
    """Take the usable answers: an empty one means the default, where there is one.

    Args:
        questions: What was asked.
        given: What came back; anything but a mapping of fields to text answers nothing.

    Returns:
        Answers by field; a field that still has none is missing, and is asked again.
    """
    replies = given if isinstance(given, dict) else {}
    accepted = {}
    for question in questions:
        reply = str(replies.get(question["field"]) or question["default"] or "").strip()
        if reply:
            accepted[question["field"]] = reply[:MAX_ANSWER]
    return accepted
