"""Rules about discounts, and which of several holds for a call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from functools import lru_cache
from uuid import UUID

import msgspec

from domain.contracts.events import ContractDiscountRemoved, ContractDiscountSet
from domain.kernel import DomainError, Event, NotFoundError, Stream

BASIS_POINTS_MAX = 10_000
DISCOUNTS_MAX = 200  # of one organization
PATTERN_CHARS_MAX = 100
_PATTERN = re.compile(r"[a-z0-9*._@:-]+(/[a-z0-9*._@:\[\]-]+)*")
_PATTERNS_CACHED_MAX = 1_000
_EVERY_MODEL = {"*", "*/*"}
# Beginnings of the names of models, and who makes those.
_VENDORS = (
    ("claude", "anthropic"),
    ("gpt", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("codex", "openai"),
    ("chatgpt", "openai"),
    ("gemini", "google"),
    ("grok", "xai"),
    ("deepseek", "deepseek"),
    ("mistral", "mistral"),
    ("llama", "meta"),
)


class BadDiscountError(DomainError):
    """The discount makes no sense."""

    code = "validation_failed"


class TooManyDiscountsError(DomainError):
    """There may be no more discounts."""

    code = "limit_reached"


class Discount(msgspec.Struct, frozen=True):
    """One agreement; see `ContractDiscountSet`."""

    discount_id: UUID
    pattern: str
    basis_points: int
    valid_from: date
    valid_until: date | None = None


class Contracts(msgspec.Struct, frozen=True):
    """An organization's discounts by id."""

    discounts: dict[UUID, Discount] = {}


INITIAL = Contracts()


def stream() -> Stream:
    """Where an organization's discounts are told."""
    return Stream("Contracts", "discounts")


def evolve(state: Contracts, event: Event) -> Contracts:
    """Apply one fact."""
    match event:
        case ContractDiscountSet():
            return Contracts({**state.discounts, event.discount_id: of(event)})
        case ContractDiscountRemoved(discount_id=discount_id):
            return Contracts({key: one for key, one in state.discounts.items() if key != discount_id})
        case _:
            return state


def of(event: ContractDiscountSet) -> Discount:
    """The discount that a fact tells of."""
    return Discount(event.discount_id, event.pattern, event.basis_points, event.valid_from, event.valid_until)


def set_discount(state: Contracts, wanted: Discount, *, at: datetime) -> list[Event]:
    """Agree on a discount, or change one.

    Raises:
        BadDiscountError: pattern, percentage or dates make no sense.
        TooManyDiscountsError: there are `DISCOUNTS_MAX`.
    """
    pattern = wanted.pattern.strip().lower()
    if len(pattern) > PATTERN_CHARS_MAX or not _PATTERN.fullmatch(pattern):
        raise BadDiscountError(
            "pattern: expected vendor/model, such as anthropic/* or */claude-opus-*", field="pattern"
        )
    if not 0 < wanted.basis_points <= BASIS_POINTS_MAX:
        raise BadDiscountError(f"basis_points: expected 1 to {BASIS_POINTS_MAX}", field="basis_points")
    if wanted.valid_until is not None and wanted.valid_until <= wanted.valid_from:
        raise BadDiscountError("valid_until: expected a day after valid_from", field="valid_until")
    wanted = msgspec.structs.replace(wanted, pattern=pattern)
    if state.discounts.get(wanted.discount_id) == wanted:
        return []
    if wanted.discount_id not in state.discounts and len(state.discounts) >= DISCOUNTS_MAX:
        raise TooManyDiscountsError(f"there are already {DISCOUNTS_MAX} discounts")
    return [ContractDiscountSet(**msgspec.structs.asdict(wanted), set_at=at)]


def remove_discount(state: Contracts, discount_id: UUID, *, at: datetime) -> list[Event]:
    """Undo a discount as if it had never been.

    Raises:
        NotFoundError: there is none of that id.
    """
    if discount_id not in state.discounts:
        raise NotFoundError("there is no such discount")
    return [ContractDiscountRemoved(discount_id=discount_id, removed_at=at)]


def vendor_of(model: str) -> str:
    """Who makes a model, as far as its name tells; `unknown` else."""
    name = model.lower()
    for part in (name, name.rpartition("/")[2], name.rpartition(".")[2]):
        for beginning, vendor in _VENDORS:
            if part.startswith(beginning):
                return vendor
    return "unknown"


@lru_cache(_PATTERNS_CACHED_MAX)
def _compiled(pattern: str) -> re.Pattern[str]:
    wanted = pattern if "/" in pattern else f"*/{pattern}"
    return re.compile(".*".join(re.escape(part) for part in wanted.split("*")))


def _fits(pattern: str, model: str | None) -> bool:
    if model is None:
        return pattern in _EVERY_MODEL
    return _compiled(pattern).fullmatch(f"{vendor_of(model)}/{model.lower()}") is not None


def basis_points_of(discounts: Iterable[Discount], model: str | None, day: date) -> int:
    """What is off the cost of a call of a model on a day (UTC): of the discounts that hold, the one with the longest pattern.

    Of patterns of equal length the larger discount.  A pattern without a slash is for models of any vendor.  For what names no
    model only the patterns for every model hold: nobody knows which vendor it is of.
    """
    holding: Sequence[tuple[int, int]] = [
        (len(one.pattern), one.basis_points)
        for one in discounts
        if one.valid_from <= day and (one.valid_until is None or day < one.valid_until) and _fits(one.pattern, model)
    ]
    return max(holding)[1] if holding else 0
