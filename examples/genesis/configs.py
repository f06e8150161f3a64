"""What has to be decided in each stage before the next one."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, create_model

from examples.genesis.errors import IncompleteConfigError
from examples.genesis.models import GenesisStage
from examples.genesis.story.language import words

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]


def _config(stage: str, fields: Mapping[str, Any]) -> type[BaseModel]:
    required: dict[str, Any] = dict.fromkeys(fields, (Text, ...))
    return create_model(stage, __config__=ConfigDict(extra="allow"), **required)


CONFIGS = {
    GenesisStage(stage): _config(stage, asked["fields"]) for stage, asked in words("stages").items()
}
"""The model of each stage's config: the fields that it asks for. FINISHED has none."""


def fields_of(stage: GenesisStage) -> list[str]:
    """The required fields of a stage's config, in the order in which they are decided."""
    return list(CONFIGS[stage].model_fields)


def require_complete(stage: GenesisStage, config: Mapping[str, Any]) -> None:
    """Check that a stage's config has all that the next stage builds on.

    Raises:
        IncompleteConfigError: It has not; names each field and what is wrong with it.
    """
    try:
        CONFIGS[stage].model_validate(config)
    except ValidationError as exc:
        found = {str(error["loc"][0]): error["msg"] for error in exc.errors()}
        raise IncompleteConfigError(
            f"the config of {stage} is not complete: {', '.join(found)}. Decide on these fields in "
            "the stage's primary session, then try again",
            errors=[{"pointer": f"#/{name}", "detail": said} for name, said in found.items()],
        ) from exc
