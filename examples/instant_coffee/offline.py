"""The models: rule-based, deterministic, with a price list and honest token counts."""

from math import ceil

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata

CLASSIFIER = "offline/classifier"
WRITER = "offline/writer"
EXPANDER = "offline/expander"
VALIDATOR = "offline/validator"
STYLE_REFINER = "offline/style-refiner"

# US dollars for a million tokens.
PRICES = {
    CLASSIFIER: {"input": 0.10, "output": 0.40},
    WRITER: {"input": 3.00, "output": 15.00},
    EXPANDER: {"input": 0.80, "output": 4.00},
    VALIDATOR: {"input": 0.80, "output": 4.00},
    STYLE_REFINER: {"input": 3.00, "output": 15.00},
}
_CHARACTERS_PER_TOKEN = 4


def count_tokens(text: str) -> int:
    """Estimate the tokens of a text by the usual four characters a token."""
    return ceil(len(text) / _CHARACTERS_PER_TOKEN)


def reply(agent: str, model: str, prompt: str, content: str, output: str = "") -> AIMessage:
    """Make the message that a model answers with, its usage counted from the texts.

    Args:
        agent: Who speaks; the message's name.
        model: Which model spoke.
        prompt: What it read.
        content: What it says in the conversation.
        output: What else it wrote, such as a whole page, counted but not repeated.

    Returns:
        A message with `usage_metadata` and the model's name.
    """
    read, written = count_tokens(prompt), count_tokens(content) + count_tokens(output)
    usage = UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)
    return AIMessage(
        content=content,
        name=agent,
        usage_metadata=usage,
        response_metadata={"model_name": model},
    )
