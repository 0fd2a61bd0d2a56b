"""Numbers as people read them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from domain.words import counted

ROOT = Path(__file__).resolve().parents[2]
# A number put straight before a noun in the plural, in what a command prints: it reads "1 records" one day.
NAKED = re.compile(
    r"(?:echo|Text|add_task)\(\s*f?\"[^\"]*\{[\w.]*(?:\(\w+\))?(?::,)?\} [a-z ]*(?:records|events|files|calls|bytes|rows)"
)


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (0, ("record",), "0 records"),
        (1, ("record",), "1 record"),
        (1200, ("record",), "1,200 records"),
        (1, ("batch", "batches"), "1 batch"),
        (2, ("batch", "batches"), "2 batches"),
    ],
)
def test_one_of_a_thing_is_no_plural(count: int, words: tuple[str, ...], said: str) -> None:
    assert counted(count, *words) == said


@pytest.mark.parametrize("path", sorted((ROOT / "cli").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_count_with_nouns_that_agree(path: Path) -> None:
    assert NAKED.findall(path.read_text(encoding="utf-8")) == []
