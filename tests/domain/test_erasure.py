"""What erasing decides: asked for once, certified once, only when every key is gone."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.erasure import decide
from domain.erasure.decide import UNASKED, Done, ErasureRefusedError, ErasureState, Unasked, Wanted
from domain.erasure.events import ErasedSubject, ErasureCertified, ErasureRequested, Subject
from domain.kernel import Event, NotFoundError

AT = datetime(2026, 11, 25, 4, tzinfo=UTC)
ID = UUID(int=7)
SUBJECTS = [Subject(UUID(int=2), UUID(int=9)), Subject(UUID(int=1), UUID(int=9))]
ERASED = [
    ErasedSubject(org_id=one.org_id, subject=one.subject, key_sha256="ab" * 32, key_destroyed_at=AT, position=5)
    for one in sorted(SUBJECTS)
]


def folded(*events: Event) -> ErasureState:
    state: ErasureState = UNASKED
    for event in events:
        state = decide.evolve(state, event)
    return state


def ask(state: ErasureState, reason: str = "subject_request", subjects: list[Subject] = SUBJECTS) -> list[Event]:
    return decide.request(state, erasure_id=ID, subjects=subjects, reason=reason, requested_by="key:1", at=AT)


def certify(state: ErasureState, erased: list[ErasedSubject] = ERASED) -> list[Event]:
    return decide.certify(
        state, erased=erased, log="crewkit/test", at=AT, sign=lambda text: text + "\nsigned", public_key="k"
    )


def test_an_erasure_is_asked_for_once_with_its_subjects_in_order() -> None:
    (asked,) = ask(UNASKED, subjects=[*SUBJECTS, SUBJECTS[0]])
    assert isinstance(asked, ErasureRequested)
    assert asked.subjects == sorted(SUBJECTS)
    assert ask(folded(asked)) == []
    assert ask(folded(asked), reason="legal_obligation") == []


@pytest.mark.parametrize(("reason", "subjects"), [("because Ada said so", SUBJECTS), ("subject_request", [])])
def test_free_text_and_nobody_are_refused(reason: str, subjects: list[Subject]) -> None:
    with pytest.raises(ErasureRefusedError):
        ask(UNASKED, reason, subjects)


def test_a_certificate_says_what_was_destroyed_and_is_given_once() -> None:
    asked = ask(UNASKED)
    (done,) = certify(folded(*asked))
    assert isinstance(done, ErasureCertified)
    assert done.note == (
        "crewkit/test\n"
        "crewkit-erasure 1 00000000-0000-0000-0000-000000000007\n"
        "requested 2026-11-25T04:00:00.000000Z by key:1 because subject_request\n"
        "certified 2026-11-25T04:00:00.000000Z\n"
        f"subject {UUID(int=1)} {UUID(int=9)} key {'ab' * 32} destroyed 2026-11-25T04:00:00.000000Z told 5\n"
        f"subject {UUID(int=2)} {UUID(int=9)} key {'ab' * 32} destroyed 2026-11-25T04:00:00.000000Z told 5\n"
        "\nsigned"
    )
    assert certify(folded(*asked, done)) == []


def test_nothing_is_certified_that_was_not_asked_for_or_is_not_done() -> None:
    with pytest.raises(NotFoundError):
        certify(UNASKED)
    with pytest.raises(ErasureRefusedError):
        certify(folded(*ask(UNASKED)), ERASED[:1])


class ErasureMachine(RuleBasedStateMachine):
    """Any order, any repetition."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Event] = []

    @property
    def state(self) -> ErasureState:
        return folded(*self.history)

    @rule(reason=st.sampled_from([*decide.REASONS, "other"]))
    def ask(self, reason: str) -> None:
        try:
            self.history += ask(self.state, reason)
        except ErasureRefusedError:
            assert reason == "other"
            assert self.history == []

    @rule(erased=st.sampled_from([ERASED, ERASED[:1], []]))
    def certify(self, erased: list[ErasedSubject]) -> None:
        before = self.state
        try:
            self.history += certify(before, erased)
        except NotFoundError:
            assert isinstance(before, Unasked)
        except ErasureRefusedError:
            assert isinstance(before, Wanted)
            assert erased != ERASED

    @invariant()
    def asked_for_then_certified_each_once(self) -> None:
        kinds = [type(event) for event in self.history]
        assert kinds in ([], [ErasureRequested], [ErasureRequested, ErasureCertified])
        assert isinstance(self.state, Done) == (len(kinds) == 2)


TestErasure = ErasureMachine.TestCase
