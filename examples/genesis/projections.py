"""What a step of the graph does to the application's tables, in the step's own transaction."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from langchain_core.messages import HumanMessage
from langgraph.graph import END
from sqlalchemy import UpdateBase, update

from examples.genesis.configs import fields_of
from examples.genesis.events import insert_event
from examples.genesis.graph import State, Target, next_node
from examples.genesis.models import GenesisStageRecord, StageStatus
from examples.genesis.repositories import lock, shown_by
from langgraph_session_saver import Projection, Step


def _status(target: Target, state: State) -> StageStatus:
    """Whether the graph works, or waits for its writer."""
    waits = state["question"] is not None or next_node(target, state) == END
    return StageStatus.PAUSED if waits else StageStatus.RUNNING


def _metrics(target: Target, state: State) -> dict[str, Any]:
    """What can be counted."""
    return {
        "decided": len(state["config"]),
        "fields": len(fields_of(target.stage)),
        "sections": len(state["parts"]),
        "total_sections": state.get("total", 0),
        "words": sum(len(part["text"].split()) for part in state["parts"]),
        "marks": {mark["criterion"]: mark["score"] for mark in state["marks"]},
    }


class StageProgress(Projection):
    """Updates the record of a run's stage, if it shows the run's session, and adds an event."""

    def applies(self, step: Step) -> bool:
        """Whether the run named a stage, and has a state: LangGraph saves the input before it."""
        return "stage_id" in step.metadata and "config" in step.values

    def statements(self, step: Step) -> Iterable[UpdateBase]:
        """Lock the flow as services do, then do what they would do."""
        target, state = Target.model_validate(step.metadata), cast("State", step.values)
        ids = {"stage_id": target.stage_id, "session_id": step.session_id}
        work = {"status": _status(target, state), "metrics": _metrics(target, state)}
        decided = {"config": state["config"], "result": state["result"]}
        shown = update(GenesisStageRecord).where(shown_by(**ids))
        yield lock(target.flow_id)
        yield shown.values(**work, **decided, iteration_count=state["iterations"])
        data = {"stage": target.stage, "question": state["question"], **work}
        once = {"id": f"step/{step.checkpoint_id}", "created_at": step.time}
        yield insert_event("session.step", target.flow_id, data=data, **ids, **once)

    def columns(self, step: Step) -> Mapping[str, Any]:
        """The session's rounds: each begins with a message of the writer."""
        said = (isinstance(message, HumanMessage) for message in step.values["messages"])
        return {"round_sequence": sum(said)}


PROJECTIONS: Mapping[str, Projection] = {"stage": StageProgress()}
"""The saver's option `projections`."""
