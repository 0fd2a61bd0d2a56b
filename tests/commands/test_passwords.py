"""Password hashes: slow on purpose, few at a time."""

from __future__ import annotations

import asyncio

from commands.users.passwords import AT_ONCE_MAX, WAITING_MAX, BusyError, Hashing


async def test_a_hash_matches_its_password_only_however_it_was_typed() -> None:
    hashing = Hashing()
    stored = await hashing.hash("pa\N{LATIN SMALL LETTER E WITH ACUTE}sword and more")
    assert stored.startswith("$argon2id$")
    assert stored != await hashing.hash("pa\N{LATIN SMALL LETTER E WITH ACUTE}sword and more"), "salted"
    assert await hashing.matches(stored, "pae\N{COMBINING ACUTE ACCENT}sword and more")
    assert not await hashing.matches(stored, "paesword and more")
    assert not await hashing.matches(None, "paesword and more")
    assert not await hashing.matches("no hash at all", "paesword and more")


async def test_a_crowd_is_told_to_come_again() -> None:
    hashing = Hashing()
    crowd = [hashing.hash("password") for _ in range(WAITING_MAX + AT_ONCE_MAX)]
    answers = await asyncio.gather(*crowd, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BusyError)]
    assert len(refused) == AT_ONCE_MAX
    assert refused[0].details["retry_after_s"] > 0
    assert await hashing.hash("password"), "later there is room again"
