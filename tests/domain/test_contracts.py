"""Discounts: what may be agreed, and which one holds for a call."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.contracts import decide
from domain.contracts.decide import (
    DISCOUNTS_MAX,
    INITIAL,
    BadDiscountError,
    Contracts,
    Discount,
    TooManyDiscountsError,
    basis_points_of,
    evolve,
    remove_discount,
    set_discount,
    vendor_of,
)
from domain.contracts.events import ContractDiscountRemoved, ContractDiscountSet
from domain.kernel import Event, NotFoundError

AT = datetime(2026, 11, 1, tzinfo=UTC)
FIRST = date(2026, 1, 1)
ONE = Discount(UUID(int=1), "anthropic/*", 1_000, FIRST)


def given(*events: Event) -> Contracts:
    state = INITIAL
    for event in events:
        state = evolve(state, event)
    return state


def told(one: Discount) -> ContractDiscountSet:
    return ContractDiscountSet(**msgspec.structs.asdict(one), set_at=AT)


def test_a_discount_is_set_changed_and_undone() -> None:
    assert set_discount(given(), ONE, at=AT) == [told(ONE)]
    assert set_discount(given(told(ONE)), ONE, at=AT) == []
    dearer = msgspec.structs.replace(ONE, basis_points=500)
    assert set_discount(given(told(ONE)), dearer, at=AT) == [told(dearer)]
    assert remove_discount(given(told(ONE)), ONE.discount_id, at=AT) == [
        ContractDiscountRemoved(discount_id=ONE.discount_id, removed_at=AT)
    ]
    with pytest.raises(NotFoundError):
        remove_discount(given(), ONE.discount_id, at=AT)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pattern", ""),
        ("pattern", "anthropic/(x"),
        ("pattern", "a" * 101),
        ("pattern", "two words"),
        ("basis_points", 0),
        ("basis_points", 10_001),
        ("valid_until", FIRST),
    ],
)
def test_a_discount_that_makes_no_sense_is_refused_by_the_name_of_the_field(field: str, value: Any) -> None:
    with pytest.raises(BadDiscountError) as refused:
        set_discount(given(), msgspec.structs.replace(ONE, **{field: value}), at=AT)
    assert refused.value.details == {"field": field}


def test_there_are_only_so_many_discounts() -> None:
    many = given(*(told(msgspec.structs.replace(ONE, discount_id=UUID(int=n))) for n in range(DISCOUNTS_MAX)))
    with pytest.raises(TooManyDiscountsError):
        set_discount(many, msgspec.structs.replace(ONE, discount_id=UUID(int=10**6)), at=AT)


@pytest.mark.parametrize(
    ("model", "day", "points"),
    [
        ("claude-opus-5-5", date(2026, 6, 1), 2_000),
        ("claude-sonnet-5", date(2026, 6, 1), 1_000),
        ("claude-sonnet-5", date(2025, 12, 31), 0),
        ("anthropic/claude-sonnet-5", date(2026, 6, 1), 1_000),
        ("gpt-5.5", date(2026, 6, 1), 0),
        ("gpt-5.5", date(2026, 7, 1), 300),
        ("gpt-5.5", date(2026, 8, 1), 0),
        ("somebodys-model", date(2026, 6, 1), 0),
        (None, date(2026, 6, 1), 0),
    ],
)
def test_of_those_that_hold_the_longest_pattern_counts(model: str | None, day: date, points: int) -> None:
    agreed = [
        ONE,
        Discount(UUID(int=2), "*/claude-opus-*", 2_000, FIRST),
        Discount(UUID(int=3), "gpt-*", 300, date(2026, 7, 1), date(2026, 8, 1)),
    ]
    assert basis_points_of(agreed, model, day) == points


@pytest.mark.parametrize(
    ("patterns", "points"),
    [
        (["*"], 100),
        (["*/*"], 100),
        (["*", "*/*"], 101),  # the longer one
        (["*", "anthropic/*", "*/claude-*"], 100),
        (["anthropic/*", "openai/*", "*-*", "*/claude-*"], 0),
        ([], 0),
    ],
)
def test_what_names_no_model_is_reached_by_discounts_for_every_model_alone(patterns: list[str], points: int) -> None:
    agreed = [Discount(UUID(int=n), pattern, 100 + n, FIRST) for n, pattern in enumerate(patterns)]
    assert basis_points_of(agreed, None, FIRST) == points
    assert basis_points_of(agreed, None, FIRST - timedelta(days=1)) == 0


def test_vendors_are_told_by_the_names_of_their_models() -> None:
    assert [vendor_of(name) for name in ("claude-x", "us.anthropic.claude-x", "openai/gpt-5", "o3", "gemini-3", "mine")] == [
        "anthropic", "anthropic", "openai", "openai", "google", "unknown",
    ]  # fmt: skip


class ContractsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.history: list[Event] = []
        self.held: dict[UUID, Discount] = {}

    @rule(number=st.integers(1, 4), points=st.integers(-5, 10_005), days=st.integers(-2, 2))
    def agree(self, number: int, points: int, days: int) -> None:
        until = None if days == 2 else date.fromordinal(FIRST.toordinal() + days)
        wanted = Discount(UUID(int=number), "openai/*", points, FIRST, until)
        sensible = 0 < points <= 10_000 and (until is None or until > FIRST)
        try:
            self.history += set_discount(given(*self.history), wanted, at=AT)
        except BadDiscountError:
            assert not sensible
        else:
            assert sensible
            self.held[wanted.discount_id] = wanted

    @rule(number=st.integers(1, 4))
    def undo(self, number: int) -> None:
        try:
            self.history += remove_discount(given(*self.history), UUID(int=number), at=AT)
        except NotFoundError:
            assert UUID(int=number) not in self.held
        else:
            del self.held[UUID(int=number)]

    @invariant()
    def history_tells_what_holds(self) -> None:
        assert given(*self.history).discounts == self.held


TestContracts = ContractsMachine.TestCase


def test_the_stream_is_one_per_organization() -> None:
    assert str(decide.stream()) == "Contracts:discounts"
