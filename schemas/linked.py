"""Session answers as the API gives them: what the queries found, with `_links` to the canonical paths."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

import msgspec

from schemas.sessions import Item, OrganizationLive, SessionDetail, SessionLive, SessionSummary, TokenTotals, TreeNode


class SessionLine(SessionSummary, frozen=True, kw_only=True):
    """One line of the list."""

    links: dict[str, str] = msgspec.field(name="_links")


class SessionList(msgspec.Struct, frozen=True, kw_only=True):
    """Latest activity first.  `next_cursor` null: there are no more."""

    items: list[SessionLine]
    next_cursor: str | None
    links: dict[str, str] = msgspec.field(name="_links")


class SessionAnswer(SessionDetail, frozen=True, kw_only=True):
    """A session, its conversations, and the tree of both with their subagents."""

    tree: TreeNode | None
    links: dict[str, str] = msgspec.field(name="_links")


class TreeAnswer(TreeNode, frozen=True, kw_only=True):
    """The tree of a session."""

    links: dict[str, str] = msgspec.field(name="_links")


class LiveAnswer(SessionLive, frozen=True, kw_only=True):
    """A session now."""

    links: dict[str, str] = msgspec.field(name="_links")


class OrganizationLiveAnswer(OrganizationLive, frozen=True, kw_only=True):
    """The organization now."""

    links: dict[str, str] = msgspec.field(name="_links")


class ItemList(msgspec.Struct, frozen=True, kw_only=True):
    """Oldest first.  `next_cursor` is always set: give it back later for what came since; `more`: there is more now.

    `stream_status` is of the conversation: `inactive`, `streaming`, `consolidating`, `completed`.
    """

    stream_status: str
    items: list[Item]
    next_cursor: str
    more: bool
    links: dict[str, str] = msgspec.field(name="_links")


class SubagentLine(msgspec.Struct, frozen=True, kw_only=True):
    """One subagent, and where it ran."""

    agent_id: str
    llm_session_id: str
    session_id: str
    agent_type: str | None
    status: str
    background: bool | None
    model: str | None
    started_at: datetime | None
    ended_at: datetime | None
    model_calls: int
    tool_calls: int
    tokens: TokenTotals
    cost_usd_micros: int | None
    links: dict[str, str] = msgspec.field(name="_links")


class SubagentList(msgspec.Struct, frozen=True, kw_only=True):
    """Latest start first, at most 200."""

    items: list[SubagentLine]
    links: dict[str, str] = msgspec.field(name="_links")


LinkedT = TypeVar("LinkedT", bound=msgspec.Struct)


def linked(kind: type[LinkedT], value: msgspec.Struct, links: dict[str, str], **more: Any) -> LinkedT:
    """`value` as its linked `kind`."""
    return kind(**msgspec.structs.asdict(value), **more, links=links)
