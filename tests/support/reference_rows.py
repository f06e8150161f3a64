"""What the rows of sessions must show, kept in Python: a small model without a database."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

UNTITLED = "Untitled session"
SEVERITY = {"interrupted": 1, "error": 2}
KINDS = {"__error__": "error", "__interrupt__": "interrupted"}
DEFAULTS: Mapping[str, Any] = {
    "build_status": "pending",
    "product_type": None,
    "model_writer": None,
}
"""The columns that the model has, of those that channels set; None as a value means these."""
LARGEST = 2_048
"""Characters of a value that the column `graph_state` holds itself."""


class Step(NamedTuple):
    """A root checkpoint, as far as it has rows."""

    thread: str
    id: str
    parent_id: str | None
    values: Mapping[str, Any]
    parent_values: Mapping[str, Any]
    changed: frozenset[str]
    """The channels that got a value or lost it."""
    versions: Mapping[str, Any]


@dataclass
class Message:
    """A row of `messages`."""

    role: str
    content: str
    is_shown: bool


@dataclass
class Page:
    """A row of `versions`."""

    number: int
    html: str
    thread: str | None = None
    """None for a page that was added by hand."""
    channel_version: Any = None
    is_pinned: bool = False


def refers(state: Mapping[str, Any]) -> bool:
    """Whether some of a state's values are too large for the column, which refers to them."""
    return any(len(json.dumps(value)) > LARGEST for value in state.values())


@dataclass
class Session:
    """A row of `sessions`, and those that belong to it and to no thread."""

    id: str
    is_by_hand: bool = False
    title: str = UNTITLED
    titled_by: str | None = None
    """The thread whose message the title is."""
    columns: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))
    state: dict[str, Any] | None = None
    checkpoint_id: str | None = None
    is_outdated: bool = False
    """Whether columns were set by hand, so that the next step writes all of them."""
    status: str | None = None
    current_version: int = 0
    pages: list[Page] = field(default_factory=list)
    added_messages: list[tuple[str, str]] = field(default_factory=list)
    added_calls: list[tuple[str, int, int]] = field(default_factory=list)

    def set_by_hand(self, **columns: Any) -> None:
        """Set columns that a graph projects, as `saver.state` and `saver.sessions` do."""
        self.columns |= {name: _or_default(name, value) for name, value in columns.items()}
        self.checkpoint_id, self.is_outdated = None, True

    def clear(self) -> None:
        """Clear what a graph's steps have set, but for what the application may have set."""
        if self.checkpoint_id is not None:
            self.columns["build_status"] = DEFAULTS["build_status"]
            self.state = self.checkpoint_id = None
        elif self.state is not None and refers(self.state):
            self.state = None

    def add_page(self, page: Page, keep: int | None, *, is_current: bool) -> None:
        """Add a page; of those that are neither pinned nor current, only the newest stay."""
        self.pages.append(page)
        if is_current:
            self.current_version = page.number
        self.drop_pages(keep)

    def drop_pages(self, keep: int | None) -> None:
        """Drop what `keep_versions` does not keep."""
        if keep is not None:
            oldest = self.pages[-1].number - keep
            self.pages = [
                page
                for page in self.pages
                if page.number > oldest or page.is_pinned or page.number == self.current_version
            ]

    @property
    def next_number(self) -> int:
        """The number of the next page."""
        return self.pages[-1].number + 1 if self.pages else 0

    @property
    def current_html(self) -> str | None:
        """The text of the current page."""
        return next((p.html for p in self.pages if p.number == self.current_version), None)


@dataclass
class Thread:
    """A row of `session_threads`, and what its steps have projected."""

    id: str
    session: Session
    created: Any
    is_first: bool
    newest: str | None = None
    """The newest root checkpoint."""
    status: str | None = None
    status_at: str = ""
    """The checkpoint that the status belongs to."""
    messages: dict[str, Message] = field(default_factory=dict)
    """By id; those that are shown come in their order."""
    calls: dict[tuple[str, int, str], tuple[int, int]] = field(default_factory=dict)
    """Input and output tokens by what tells a call from others: id, usage and text."""
    errors: dict[tuple[str, str], str] = field(default_factory=dict)
    """Checkpoints of errors, by task and message."""


class ReferenceRows:
    """Sessions and their rows, as the documents say that steps and methods change them.

    Args:
        keep_versions: The number of pages that each session keeps.
    """

    def __init__(self, keep_versions: int | None) -> None:
        self._keep_versions = keep_versions
        self.sessions: dict[str, Session] = {}
        self.threads: dict[str, Thread] = {}

    def thread(self, name: str, session_id: str | None, created: Any) -> Thread:
        """A thread, made with its session if there is none."""
        if name not in self.threads:
            session_id = session_id or name
            session = self.sessions.setdefault(session_id, Session(session_id))
            is_first = not self.threads_of(session)
            self.threads[name] = Thread(name, session, created, is_first)
        return self.threads[name]

    def threads_of(self, session: Session) -> list[Thread]:
        """A session's threads, oldest first."""
        found = [thread for thread in self.threads.values() if thread.session is session]
        return sorted(found, key=lambda thread: (thread.created, thread.id))

    # -- steps --------------------------------------------------------------------------------

    def put(self, step: Step) -> None:
        """Project a root checkpoint."""
        thread = self.threads[step.thread]
        if "messages" in step.changed:  # not in a copy, which was paid for as the original
            thread.calls |= new_calls(step.values, step.parent_values)
        if thread.newest is not None and step.id <= thread.newest:
            self._add_older(thread, step)
            return
        is_fork, thread.newest = step.parent_id != thread.newest, step.id
        if step.id > thread.status_at:
            thread.status, thread.status_at = "done", step.id
        self._show(thread, step, is_fork=is_fork)

    def _add_older(self, thread: Thread, step: Step) -> None:
        """Add what an overtaken run brings, as what is not part of the present state."""
        known = named_messages(step.parent_values)
        for name, (role, content) in named_messages(step.values).items():
            if name not in known:
                thread.messages.setdefault(name, Message(role, content, is_shown=False))
        if "html" in step.changed:
            self._store_page(thread, step)

    def show_newest(self, step: Step) -> None:
        """Show what has become the newest checkpoint because others were deleted."""
        thread = self.threads[step.thread]
        thread.newest = step.id
        self._show(thread, step, is_fork=True)

    def show_nothing(self, thread: Thread) -> None:
        """Show that a thread has no root checkpoint left."""
        thread.newest, thread.status, thread.status_at = None, None, ""
        for row in thread.messages.values():
            row.is_shown = False
        if thread.is_first:
            thread.session.clear()

    def _show(self, thread: Thread, step: Step, *, is_fork: bool) -> None:
        self._show_messages(thread, step)
        session = thread.session
        if thread.is_first:
            changed = step.values.keys() & DEFAULTS.keys()
            if not (is_fork or session.is_outdated):
                changed &= step.changed
            session.columns |= {name: _or_default(name, step.values[name]) for name in changed}
            session.state = state_of(step.values)
            session.checkpoint_id, session.is_outdated = step.id, False
            self._title(thread, step)
        if is_fork or "html" in step.changed:
            page = self._store_page(thread, step, is_fork=is_fork)
            if page is not None and thread.is_first:
                session.current_version = page.number
            session.drop_pages(self._keep_versions if page is not None else None)

    def _show_messages(self, thread: Thread, step: Step) -> None:
        shown = {
            name: Message(role, content, is_shown=True)
            for name, (role, content) in named_messages(step.values).items()
        }
        gone = {name: row for name, row in thread.messages.items() if name not in shown}
        for row in gone.values():
            row.is_shown = False
        thread.messages = {**shown, **gone}

    def _title(self, thread: Thread, step: Step) -> None:
        """Title a session by the first human message, until somebody has set another title."""
        human = [text for role, text in named_messages(step.values).values() if role == "user"]
        if thread.session.title == UNTITLED and human:
            in_one_line = " ".join(human[0].split())
            thread.session.title, thread.session.titled_by = in_one_line, thread.id

    def _store_page(self, thread: Thread, step: Step, *, is_fork: bool = False) -> Page | None:
        """Store the page of a step; returns the one that is now current, if that changes."""
        html, session = step.values.get("html"), thread.session
        if html is None:
            return None
        if session.pages and session.pages[-1].html == html:
            return session.pages[-1]
        version = step.versions["html"]
        for page in session.pages:
            if (page.thread, page.channel_version) == (thread.id, version):
                return page if is_fork else None
        page = Page(session.next_number, html, thread.id, version)
        is_older = step.id != thread.newest
        session.add_page(page, self._keep_versions, is_current=thread.is_first and not is_older)
        return page

    # -- writes -------------------------------------------------------------------------------

    def put_writes(
        self,
        thread: Thread,
        checkpoint_id: str,
        root_id: str | None,
        task: str,
        writes: Sequence[tuple[str, Any]],
    ) -> None:
        """Note what a task's writes say about the thread, if its root checkpoint is known."""
        channels = [channel for channel, _ in writes]
        if "__resume__" in channels and thread.status in SEVERITY:
            thread.status = "running"
        for channel, value in writes:
            if channel == "__error__":
                thread.errors.setdefault((task, str(value)), checkpoint_id)
        worst = worst_of(channels)
        if worst is not None and root_id is not None:
            known = (thread.status_at, SEVERITY.get(thread.status or "", 0))
            if known < (root_id, SEVERITY[worst]):
                thread.status, thread.status_at = worst, root_id

    # -- whole threads ------------------------------------------------------------------------

    def delete_thread(self, name: str) -> None:
        """Drop a thread with what it projected, and a session that was made for it alone."""
        thread = self.threads.pop(name, None)
        if thread is None:
            return
        session = thread.session
        session.pages = [page for page in session.pages if page.thread != name]
        if session.titled_by == name:
            session.title, session.titled_by = UNTITLED, None
        others = self.threads_of(session)
        if thread.is_first:
            session.clear()
            if others:
                others[0].is_first, session.is_outdated = True, True
        if not others and not session.is_by_hand:
            del self.sessions[session.id]

    def copy_thread(
        self, source_name: str, name: str, session_id: str | None, newest: Step | None
    ) -> None:
        """Make a thread that shows another's newest checkpoint, by default in its own session."""
        source = self.threads[source_name]
        copy = self.thread(name, session_id, source.created)
        copy.status, copy.status_at = source.status, source.status_at
        if newest is not None:
            self.show_newest(newest._replace(thread=name))

    def delete_session(self, session: Session) -> None:
        """Drop a session with all that it owns."""
        for thread in self.threads_of(session):
            del self.threads[thread.id]
        del self.sessions[session.id]


def _or_default(name: str, value: Any) -> Any:
    return DEFAULTS[name] if value is None else value


def worst_of(channels: Iterable[str]) -> str | None:
    """The status that writes to channels give a thread."""
    kinds = [KINDS[channel] for channel in channels if channel in KINDS]
    return max(kinds, key=SEVERITY.__getitem__, default=None)


def messages_of(values: Mapping[str, Any]) -> list[Any]:
    """The messages of a state."""
    return values.get("messages") or []


def named_messages(values: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Role and text of each message of a state, by its id, or its place if it has none."""
    roles = {"human": "user", "ai": "assistant"}
    return {
        message.id or f"#{place}": (roles.get(message.type, message.type), str(message.content))
        for place, message in enumerate(messages_of(values))
    }


def new_calls(
    values: Mapping[str, Any], parent_values: Mapping[str, Any]
) -> dict[tuple[str, int, str], tuple[int, int]]:
    """The model calls of a state that its parent does not have."""
    known = {
        (message.id, message.usage_metadata["total_tokens"])
        for message in messages_of(parent_values)
        if getattr(message, "usage_metadata", None)
    }
    return {
        (message.id, usage["total_tokens"], message.content): (
            usage["input_tokens"],
            usage["output_tokens"],
        )
        for message in messages_of(values)
        if (usage := getattr(message, "usage_metadata", None))
        and (message.id, usage["total_tokens"]) not in known
    }


def state_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """What `load_state` gives: a state without the channels that have rows of their own."""
    return {
        name: {"$bytes": b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in values.items()
        if name not in {"messages", "html"}
    }
