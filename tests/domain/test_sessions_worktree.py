"""A session's git worktree, as a specification."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.kernel import DomainError, Event, Sealed
from domain.sessions import worktree
from domain.sessions.events import SessionEnded, SessionWorktreeCreated, SessionWorktreeResolved
from domain.sessions.worktree import (
    NoWorktreeError,
    Resolved,
    Without,
    Working,
    WorktreeExistsError,
    WorktreeInvalidError,
)

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
PERSON = UUID(int=7)
PATH = "/work/ada/shop/.crewkit-sessions/s"
CREATED = SessionWorktreeCreated(
    session_id="s", person_id=PERSON, path=Sealed(PERSON, PATH), branch="crewkit/s", created_at=AT
)
MERGED = SessionWorktreeResolved(session_id="s", resolution="merged", resolved_at=AT)
ENDED = SessionEnded(session_id="s", outcome="completed", ended_at=AT)


def given(*history: Event) -> worktree.Worktree:
    state = worktree.INITIAL
    for event in history:
        state = worktree.evolve(state, event)
    return state


def create(state: worktree.Worktree, branch: str = "crewkit/s", path: str = PATH) -> list[worktree.WorktreeEvent]:
    return worktree.create(state, session_id="s", person_id=PERSON, path=path, branch=branch, at=AT)


def resolve(state: worktree.Worktree, resolution: str = "merged") -> list[worktree.WorktreeEvent]:
    return worktree.resolve(state, session_id="s", resolution=resolution, at=AT)


def test_a_worktree_is_told_once() -> None:
    assert create(given()) == [CREATED]
    assert create(given(CREATED)) == []


def test_another_one_has_to_wait_for_its_resolution() -> None:
    with pytest.raises(WorktreeExistsError):
        create(given(CREATED), "other")
    assert len(create(given(CREATED, MERGED), "other")) == 1


def test_what_became_of_it_is_told_once() -> None:
    assert resolve(given(CREATED)) == [MERGED]
    assert resolve(given(CREATED, MERGED)) == []
    with pytest.raises(WorktreeExistsError):
        resolve(given(CREATED, MERGED), "discarded")


def test_without_a_worktree_there_is_nothing_to_resolve() -> None:
    with pytest.raises(NoWorktreeError):
        resolve(given(ENDED))


@pytest.mark.parametrize(
    ("path", "branch"), [("", "b"), ("/x", ""), ("/x\n", "b"), ("/" * 5_000, "b"), ("/x", "b" * 201)]
)
def test_what_is_no_path_or_branch_is_refused(path: str, branch: str) -> None:
    with pytest.raises(WorktreeInvalidError):
        create(given(), branch, path)


def test_an_unknown_resolution_is_refused() -> None:
    with pytest.raises(WorktreeInvalidError, match="merged, pull_request, discarded, kept"):
        resolve(given(CREATED), "burnt")


def test_other_facts_change_nothing() -> None:
    assert given(ENDED) == Without()
    assert given(CREATED, ENDED) == Working("crewkit/s")
    assert given(CREATED, MERGED, ENDED) == Resolved("crewkit/s", "merged")
    assert given(MERGED) == Without()


class WorktreeMachine(RuleBasedStateMachine):
    """Any order, any repetition."""

    def __init__(self) -> None:
        super().__init__()
        self.state: worktree.Worktree = worktree.INITIAL
        self.history: list[worktree.WorktreeEvent] = []

    def _apply(self, events: list[worktree.WorktreeEvent]) -> None:
        for event in events:
            self.state = worktree.evolve(self.state, event)
        self.history += events

    @rule(branch=st.sampled_from(["a", "b"]))
    def create(self, branch: str) -> None:
        try:
            self._apply(create(self.state, branch))
        except DomainError:
            assert isinstance(self.state, Working)

    @rule(resolution=st.sampled_from(worktree.RESOLUTIONS))
    def resolve(self, resolution: str) -> None:
        try:
            self._apply(resolve(self.state, resolution))
        except DomainError:
            assert not isinstance(self.state, Working)

    @invariant()
    def worktrees_and_their_resolutions_take_turns(self) -> None:
        kinds = [type(event) for event in self.history]
        pairs = [SessionWorktreeCreated, SessionWorktreeResolved] * len(kinds)
        assert kinds == pairs[: len(kinds)]


TestWorktreeMachine = WorktreeMachine.TestCase
