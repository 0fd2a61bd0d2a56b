"""History straight from the event store: raw pages, one event, and the audit view.  There is no second log to disagree with."""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

from domain.kernel import Sealed, Stream
from eventstore.port import REPORTED_TYPES, Recorded
from eventstore.postgres import PostgresStore
from eventstore.sealing import DARK_PREFIX, PREFIX, KeyRing, SealBrokenError, unboxed
from schemas.history import AuditEntry, AuditPage, HistoryEvent, HistoryPage

LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000
AUDIT_SCAN_EVENTS = 1_000  # events read at once while looking for audit entries
STRETCH = 200_000  # positions searched at once for what no index tells: an actor, or a type that agents report
SEARCH_S_MAX = 5.0  # then the page is given as it is, with a cursor to go on
AUDIT_SCANS_MAX = 10  # then the page is given as it is, with a cursor to go on

# What agents report, as opposed to what somebody decided: left out of the audit view unless asked for.
FACT_ACTIONS = frozenset(tag.rpartition(".")[0] for tag in REPORTED_TYPES)

# One-time tokens and key material: who may read history must not be able to sign in as somebody with it.
SECRET_FIELDS = frozenset({"token", "password_hash", "private_key"})

RESOURCE_TYPES = (
    "Admin",
    "ApiKey",
    "Consolidation",
    "Contracts",
    "DataExport",
    "EmailMessage",
    "Erasure",
    "Export",
    "Invitation",
    "LlmSession",
    "Organization",
    "Person",
    "Project",
    "Session",
    "SessionSummary",
)
PLATFORM_TYPES = (  # these belong to no organization
    "DeviceAuthorization",
    "MagicLink",
    "PasswordReset",
    "SignInThrottle",
    "SigningKeys",
    "TokenFamily",
    "User",
    "WebAuthnChallenge",
)

_SAID = {
    "organization.created": "founded organization {slug}",
    "organization.updated": "changed the organization",
    "organization.slug_changed": "changed the organization's slug from {before} to {slug}",
    "organization.coaching_enforcement_changed": "changed coaching enforcement from {before} to {coaching_enforcement}",
    "organization.deleted": "deleted the organization",
    "organization.restored": "restored the organization",
    "organization.purged": "purged the organization",
    "member.added": "added member {user_id} as {permission}, {org_role}",
    "member.role_changed": "made member {user_id} {permission}, {org_role} (was {permission_before}, {org_role_before})",
    "member.removed": "removed member {user_id}",
    "ownership.transferred": "handed ownership from {from_user_id} to {to_user_id}",
    "invitation.created": "invited somebody as {permission}, {org_role}",
    "invitation.resent": "sent an invitation again",
    "invitation.cancelled": "cancelled an invitation",
    "invitation.accepted": "accepted an invitation",
    "invitation.declined": "declined an invitation",
    "invitation.expired": "let an invitation expire",
    "project.created": "began project {slug}",
    "project.updated": "changed the project",
    "project.slug_changed": "changed the project's slug from {before} to {slug}",
    "project.stack_overridden": "said what the project is made of: {stacks}",
    "project.stacks_detected": "detected {stacks} in the project",
    "project.deleted": "deleted the project",
    "project.restored": "restored the project",
    "project.purged": "purged the project",
    "role.created": "created working role {key}",
    "role.updated": "changed working role {key}",
    "role.deleted": "deleted working role {key}",
    "api_key.issued": "issued API key {key_id} with scopes {scopes}",
    "api_key.revoked": "revoked API key {key_id}",
    "admin.accessed": "of the staff looked at {what} {target}",
    "admin.acted": "of the staff wanted {action} {target}",
    "person.observed": "met person {person_id}",
    "subject.shredded": "erased person {person_id}",
    "data_export.requested": "asked for an export of everything about person {person_id}",
    "data_export.completed": "finished export {export_id}",
    "data_export.downloaded": "fetched export {export_id}",
    "data_export.expired": "deleted export {export_id} ({reason})",
    "erasure.requested": "asked for erasure {erasure_id} ({reason})",
    "erasure.certified": "certified erasure {erasure_id}",
    "session.started": "started session {session_id}",
    "session.ended": "ended session {session_id} as {outcome}",
    "session.timed_out": "let session {session_id} time out after {limit_s} s of silence",
    "hook.recorded": "recorded hook {kind} of {agent} conversation {llm_session_id}",
    "telemetry.recorded": "recorded {signal} {kind} of {agent} conversation {llm_session_id}",
    "transcript.recorded": "recorded transcript line {kind} of {agent} conversation {llm_session_id}",
}
_ACTORS = {"key": "API key", "user": "user", "system": "the system"}


class CursorError(ValueError):
    """The cursor was not made by us, or for another query."""


Links: TypeAlias = Callable[[str | None], dict[str, str]]  # of a list, by the cursor of the page that follows


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for.  `after` and `as_of` are positions: only events after the one and up to the other.

    `kind` keeps streams of that kind only, `decided` leaves out what agents reported.  `tail` is a parameter (`name=value`)
    that the links of its items have to repeat.
    """

    stream: Stream | None = None
    type: str | None = None
    actor: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: int = 0
    as_of: int | None = None
    decided: bool = False
    newest_first: bool = False
    limit: int = LIMIT_DEFAULT
    cursor: str | None = None
    kind: str | None = None
    tail: str = ""


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    position: int  # of the last event told
    as_of: int
    newest_first: bool


def _encode_cursor(cursor: _Cursor) -> str:
    return urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def _decode_cursor(text: str, *, newest_first: bool) -> _Cursor:
    try:
        cursor = msgspec.msgpack.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=_Cursor)
    except (ValueError, msgspec.DecodeError) as error:
        raise CursorError("cursor: expected the `next_cursor` of an earlier answer") from error
    if cursor.newest_first != newest_first:
        raise CursorError("cursor: belongs to a list in the other order")
    return cursor


async def _start(store: PostgresStore, query: Query) -> _Cursor:
    if query.cursor is not None:
        return _decode_cursor(query.cursor, newest_first=query.newest_first)
    head = await store.head()
    as_of = head if query.as_of is None else min(query.as_of, head)
    return _Cursor(as_of + 1 if query.newest_first else query.after, as_of, query.newest_first)


class _Part(msgspec.Struct, frozen=True):
    """What was found, up to where the log was searched for it, and whether that is all of it."""

    found: list[Recorded]
    reached: int
    ended: bool


async def _page(store: PostgresStore, org_id: UUID, query: Query, at: _Cursor, limit: int, until_s: float) -> _Part:
    """The next events, up to `limit`.  What no index tells is looked for in stretches of the log, and not for longer than a
    caller waits, which is until `until_s` of the monotonic clock: then there are fewer, and more may follow.
    """
    low = query.after if at.newest_first else max(at.position, query.after)
    high = min(at.as_of, at.position - 1) if at.newest_first else at.as_of
    indexed = query.stream is not None or (query.actor is None and query.type not in REPORTED_TYPES)
    found: list[Recorded] = []
    while low < high:
        first, last = low, high
        if not indexed:
            first, last = (max(low, high - STRETCH), high) if at.newest_first else (low, min(high, low + STRETCH))
        found += await store.find(
            org_id,
            after=first,
            until_position=last,
            stream=query.stream,
            type=query.type,
            actor=query.actor,
            since=query.since,
            until=query.until,
            decided=query.decided,
            newest_first=at.newest_first,
            limit=limit - len(found),
        )
        if len(found) == limit:
            return _Part(found, found[-1].position, ended=False)
        low, high = (low, first) if at.newest_first else (last, high)
        if time.monotonic() > until_s:
            break
    return _Part(found, high + 1 if at.newest_first else low, ended=low >= high)


async def events(
    store: PostgresStore, ring: KeyRing, org_id: UUID, query: Query, *, base: str, links: Links, reveal: bool
) -> HistoryPage:
    """One page of the organization's events.  `reveal` opens sealed values; `base` is the tenant's path, for links.

    A page may be shorter than its limit, even empty, and still have a `next_cursor`: the search is bounded per request.

    Raises:
        CursorError: the cursor cannot be read.
    """
    if query.kind is not None:
        found, at, ended = await _search(store, org_id, query, lambda recorded: recorded.stream.kind == query.kind)
        cursor = None if ended else _encode_cursor(at)
    else:
        at = await _start(store, query)
        part = await _page(store, org_id, query, at, query.limit + 1, time.monotonic() + SEARCH_S_MAX)
        found = part.found[: query.limit]
        reached = part.reached if len(part.found) == len(found) else found[-1].position
        cursor = None if part.ended else _encode_cursor(msgspec.structs.replace(at, position=reached))
    data = await shown(ring, org_id, found, reveal=reveal)
    return HistoryPage(
        items=[_event(recorded, one, base, query.tail) for recorded, one in zip(found, data, strict=True)],
        next_cursor=cursor,
        as_of=at.as_of,
        links=links(cursor),
    )


async def event(
    store: PostgresStore, ring: KeyRing, org_id: UUID, event_id: UUID, *, base: str, reveal: bool, tail: str = ""
) -> HistoryEvent | None:
    """One event of the organization."""
    recorded = await store.read_one(org_id, event_id)
    if recorded is None:
        return None
    return _event(recorded, (await shown(ring, org_id, [recorded], reveal=reveal))[0], base, tail)


async def audit(
    store: PostgresStore,
    ring: KeyRing,
    org_id: UUID,
    query: Query,
    *,
    base: str,
    links: Links,
    action: str | None = None,
    resource_type: str | None = None,
    facts: bool = False,
) -> AuditPage:
    """Who did what, sealed values opened.  What agents reported is left out unless `facts` or `action` ask for it.

    A page may be shorter than its limit, even empty, and still have a `next_cursor`: the search is bounded per request.

    Raises:
        CursorError: the cursor cannot be read.
    """
    reported = facts if action is None else action in FACT_ACTIONS | REPORTED_TYPES
    query = msgspec.structs.replace(query, decided=not reported)
    kept, at, ended = await _search(
        store, org_id, query, lambda recorded: _is_wanted(recorded, action, resource_type, facts=facts)
    )
    data = await shown(ring, org_id, kept, reveal=True)
    cursor = None if ended else _encode_cursor(at)
    return AuditPage(
        items=[_entry(recorded, one, base, query.tail) for recorded, one in zip(kept, data, strict=True)],
        next_cursor=cursor,
        as_of=at.as_of,
        links=links(cursor),
    )


async def _search(
    store: PostgresStore, org_id: UUID, query: Query, wanted: Callable[[Recorded], bool]
) -> tuple[list[Recorded], _Cursor, bool]:
    """Up to a page of wanted events, where the search stands, and whether it has seen everything."""
    at = await _start(store, query)
    kept: list[Recorded] = []
    until_s = time.monotonic() + SEARCH_S_MAX
    for _ in range(AUDIT_SCANS_MAX):
        part = await _page(store, org_id, query, at, AUDIT_SCAN_EVENTS, until_s)
        for recorded in part.found:
            if wanted(recorded):
                kept.append(recorded)
                if len(kept) == query.limit:
                    at = msgspec.structs.replace(at, position=recorded.position)
                    return kept, at, part.ended and recorded is part.found[-1]
        at = msgspec.structs.replace(at, position=part.reached)
        if part.ended or len(part.found) < AUDIT_SCAN_EVENTS or time.monotonic() > until_s:
            return kept, at, part.ended
    return kept, at, False


async def audit_one(
    store: PostgresStore, ring: KeyRing, org_id: UUID, event_id: UUID, *, base: str, tail: str = ""
) -> AuditEntry | None:
    """One audit entry, sealed values opened."""
    recorded = await store.read_one(org_id, event_id)
    if recorded is None:
        return None
    return _entry(recorded, (await shown(ring, org_id, [recorded], reveal=True))[0], base, tail)


async def shown(ring: KeyRing, org_id: UUID, found: Sequence[Recorded], *, reveal: bool) -> list[dict[str, Any]]:
    """The stored data of each event with its sealed values opened, or shown as sealed."""
    trees: list[dict[str, Any]] = [msgspec.json.decode(recorded.data) for recorded in found]
    if reveal:
        await ring.load(org_id, {box.subject for tree in trees for box in _boxes(tree)})
    return [
        {
            key: _open(ring, org_id, recorded.type, key, value, reveal=reveal)
            for key, value in tree.items()
            if key != "type"
        }
        for recorded, tree in zip(found, trees, strict=True)
    ]


def _sealed(value: Any) -> Sealed | None:
    if isinstance(value, str) and value.startswith((PREFIX, DARK_PREFIX)):
        try:
            return unboxed(value)
        except ValueError:
            return None
    return None


def _boxes(value: Any) -> Iterator[Sealed]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _boxes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _boxes(item)
    elif (sealed := _sealed(value)) is not None:
        yield sealed


def _open(  # noqa: PLR0911  one return per state a sealed value can be in
    ring: KeyRing, org_id: UUID, tag: str, name: str, value: Any, *, reveal: bool
) -> Any:
    if isinstance(value, dict):
        return {key: _open(ring, org_id, tag, key, item, reveal=reveal) for key, item in value.items()}
    if isinstance(value, list):
        return [_open(ring, org_id, tag, name, item, reveal=reveal) for item in value]
    sealed = _sealed(value)
    if sealed is None:
        return value
    if not reveal or name in SECRET_FIELDS:
        return {"sealed": True}
    try:
        text = ring.open(org_id, tag, sealed)
    except SealBrokenError:
        return {"sealed": True, "broken": True}
    if text is None:
        return {"sealed": True, "erased": True}
    return _as_json(text) if name == "content" else text


def _as_json(text: str) -> Any:
    """Sealed content is JSON text, unless it was cut."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _meta(recorded: Recorded) -> dict[str, Any]:
    meta: dict[str, Any] = msgspec.to_builtins(recorded.meta)
    meta.setdefault("actor", recorded.meta.actor)
    return meta


def _event(recorded: Recorded, data: dict[str, Any], base: str, tail: str) -> HistoryEvent:
    return HistoryEvent(
        position=recorded.position,
        event_id=recorded.event_id,
        stream=str(recorded.stream),
        version=recorded.version,
        type=recorded.type,
        recorded_at=recorded.recorded_at,
        data=data,
        meta=_meta(recorded),
        links={
            "self": _with(f"{base}/events/{recorded.event_id}", tail),
            "stream": _with(f"{base}/events?stream={recorded.stream}", tail),
            "audit": _with(f"{base}/audit_logs/{recorded.event_id}", tail),
        },
    )


def action_of(tag: str) -> str:
    """The stored type without its version: `session.started.v1` is the action `session.started`."""
    name, _, version = tag.rpartition(".")
    return name if version.startswith("v") and version[1:].isdigit() else tag


def _is_wanted(recorded: Recorded, action: str | None, resource_type: str | None, *, facts: bool) -> bool:
    done = action_of(recorded.type)
    if resource_type is not None and recorded.stream.kind != resource_type:
        return False
    if action is not None:
        return action in {done, recorded.type}
    return facts or done not in FACT_ACTIONS


class _Words(dict[str, Any]):
    """Sentence parts; what an event does not say is left open."""

    def __missing__(self, key: str) -> str:
        return "?"


def _entry(recorded: Recorded, data: dict[str, Any], base: str, tail: str) -> AuditEntry:
    kind, _, ident = recorded.meta.actor.partition(":")
    action = action_of(recorded.type)
    who = _ACTORS.get(kind, kind)
    words = _Words(
        {key: " ".join(map(str, value)) if isinstance(value, list) else value for key, value in data.items()}
    )
    did = _SAID[action].format_map(words) if action in _SAID else f"{action.rpartition('.')[2]} {recorded.stream}"
    return AuditEntry(
        event_id=recorded.event_id,
        position=recorded.position,
        at=recorded.recorded_at,
        actor=recorded.meta.actor,
        actor_kind=kind,
        action=action,
        resource_type=recorded.stream.kind,
        resource_id=recorded.stream.id,
        summary=f"{who} {ident} {did}",
        request_id=recorded.meta.request_id,
        reason=recorded.meta.reason or _text(data.get("reason")),
        details=data,
        links={
            "self": _with(f"{base}/audit_logs/{recorded.event_id}", tail),
            "event": _with(f"{base}/events/{recorded.event_id}", tail),
        },
    )


def _with(url: str, tail: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{tail}" if tail else url


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
