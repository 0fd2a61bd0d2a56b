"""Sealing: every checkpoint says the truth about the log, costs only what is new, and can never be changed."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest

from domain.proof.merkle import (
    ProofError,
    check_consistency,
    consistency_spans,
    inclusion_spans,
    root_of_inclusion,
    span_hash,
)
from domain.proof.merkle import blocks as blocks_of
from domain.proof.note import parse_note
from eventstore.database import API_ROLE, WORKER_ROLE, tenant
from eventstore.postgres import PostgresStore
from eventstore.proof import Signer, is_signed_by, log_hashes, log_name, seal
from eventstore.proof.nodes import NotSealedError, chunks
from eventstore.proof.seal import last_seal
from tests.eventstore.doubles import opened, pooled, wish
from tests.eventstore.proof_truth import establish, leaves

TABLES = ("proof_log", "proof_leaf", "proof_node", "proof_organization", "proof_organization_node", "proof_checkpoint")
MASTER = b"m" * 32


async def add(store: PostgresStore, start: int, count: int, organizations: int = 5) -> None:
    """Events of several organizations, mixed."""
    await asyncio.gather(
        *(
            store.append(wish(f"{start}-{n}", org_id=UUID(int=1 + (n * n) % organizations), count=1 + n % 3))
            for n in range(count)
        )
    )


async def test_every_checkpoint_says_the_truth(postgres_url: str) -> None:
    async with opened(postgres_url) as store, pooled(postgres_url, WORKER_ROLE) as pool, pool.acquire() as connection:
        signer = Signer(MASTER, await log_name(connection))
        assert await seal(connection, signer) is None  # nothing to seal
        for round_, (count, organizations) in enumerate([(1, 1), (3, 2), (150, 5), (1, 6), (400, 40), (90, 3)]):
            await add(store, round_, count, organizations)
            made = await seal(connection, signer)
            assert made is not None
            assert made.checkpoint.size == await store.head()
            assert await seal(connection, signer) is None
        assert await establish(connection) == await store.head()


async def test_a_backlog_becomes_several_checkpoints(postgres_url: str) -> None:
    async with opened(postgres_url) as store, pooled(postgres_url, WORKER_ROLE) as pool:
        await add(store, 0, 200)
        async with pool.acquire() as connection:
            signer = Signer(MASTER, "log")
            sizes = []
            while made := await seal(connection, signer, events_max=90):
                sizes.append(made.checkpoint.size)
            assert sizes == [90, 180, 270, 360, await store.head()]
            assert await establish(connection) == sizes[-1]


async def test_any_proof_is_made_of_what_is_stored(postgres_url: str) -> None:
    async with opened(postgres_url) as store, pooled(postgres_url, WORKER_ROLE) as pool, pool.acquire() as connection:
        signer, seals = Signer(MASTER, "log"), []
        for round_ in range(3):
            await add(store, round_, 200)
            seals.append((await seal(connection, signer) or pytest.fail("nothing sealed")).checkpoint)
        last = seals[-1]
        own = [one for _, one in await leaves(connection)]
        for index in (0, 1, 255, 256, 511, 512, last.size - 1):
            spans = inclusion_spans(index, last.size)
            known = await log_hashes(connection, [node for span in spans for node in blocks_of(*span)])
            path = [span_hash(span, known.__getitem__) for span in spans]
            assert root_of_inclusion(index, last.size, own[index], path) == last.root
        for first in seals[:-1]:
            spans = consistency_spans(first.size, last.size)
            known = await log_hashes(connection, [node for span in spans for node in blocks_of(*span)])
            path = [span_hash(span, known.__getitem__) for span in spans]
            check_consistency(first.size, first.root, last.size, last.root, path)
            with pytest.raises(ProofError):
                check_consistency(first.size, last.root, last.size, last.root, path)
        with pytest.raises(NotSealedError):
            await log_hashes(connection, [(0, last.size)])
        with pytest.raises(NotSealedError):
            await log_hashes(connection, [(20, 0)])


async def test_two_sealers_cannot_write_two_histories(postgres_url: str) -> None:
    async with opened(postgres_url) as store, pooled(postgres_url, WORKER_ROLE) as pool:
        await add(store, 0, 20)

        async def work(name: str) -> str:
            async with pool.acquire() as connection:
                try:
                    return name if await seal(connection, Signer(name.encode() * 32, name), 7) else "nothing new"
                except asyncpg.UniqueViolationError:
                    return "lost"

        for _ in range(4):
            assert set(await asyncio.gather(*map(work, "abc"))) <= {"a", "b", "c", "lost", "nothing new"}
        assert await establish(pool) > 0


async def test_proofs_are_append_only_for_everybody(postgres_url: str) -> None:
    async with opened(postgres_url) as store, pooled(postgres_url) as owner:
        await add(store, 0, 300)
        async with owner.acquire() as connection:
            await seal(connection, Signer(MASTER, "log"))
        for table in TABLES:
            column = await owner.fetchval(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = 'crewkit' AND table_name = $1",
                table,
            )
            assert await owner.fetchval(f"SELECT count(*) FROM crewkit.{table}") > 0
            for change in (f"UPDATE {{t}} SET {column} = {column}", "DELETE FROM {t}", "TRUNCATE {t}"):
                with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                    await owner.execute(change.format(t=f"crewkit.{table}"))
        for role in (API_ROLE, WORKER_ROLE):
            async with pooled(postgres_url, role) as pool:
                for table in TABLES:
                    for change in ("DELETE FROM {t}", "TRUNCATE {t}", "ALTER TABLE {t} DISABLE TRIGGER ALL"):
                        with pytest.raises(asyncpg.InsufficientPrivilegeError):
                            await pool.execute(change.format(t=f"crewkit.{table}"))
        async with pooled(postgres_url, API_ROLE) as pool:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute("INSERT INTO crewkit.proof_node VALUES (8, 99, repeat('a', 32)::bytea)")


async def test_the_api_sees_how_many_events_its_own_tenant_has(postgres_url: str) -> None:
    async with opened(postgres_url) as store, pooled(postgres_url, WORKER_ROLE) as pool:
        await add(store, 0, 30)
        async with pool.acquire() as connection:
            await seal(connection, Signer(MASTER, "log"))
    async with pooled(postgres_url, API_ROLE) as pool:
        assert await pool.fetchval("SELECT count(*) FROM crewkit.proof_organization") == 0
        async with tenant(pool, UUID(int=2)) as connection:
            rows = await connection.fetch("SELECT org_id FROM crewkit.proof_organization")
        assert [row["org_id"] for row in rows] == [UUID(int=2)]


async def test_the_signature_is_of_this_key_and_this_text(postgres_url: str) -> None:
    async with opened(postgres_url) as store, pooled(postgres_url, WORKER_ROLE) as pool:
        await add(store, 0, 3)
        async with pool.acquire() as connection:
            signer = Signer(MASTER, await log_name(connection))
            await seal(connection, signer)
            last = await last_seal(connection)
    assert last is not None
    found, signatures = parse_note(last.note)
    assert is_signed_by(signer.public, found.text(), signatures)
    assert not is_signed_by(signer.public, found.text().replace("number 1", "number 2"), signatures)
    assert not is_signed_by(Signer(b"x" * 32, signer.public.name).public, found.text(), signatures)
    assert Signer(MASTER, signer.public.name).public == signer.public


def test_hashes_are_cut_at_tiles() -> None:
    rows = chunks(250, b"h" * 32 * 300)
    assert [(tile, start, len(hashes) // 32) for tile, start, hashes in rows] == [(0, 250, 6), (1, 0, 256), (2, 0, 38)]
