"""kill -9 of the reactor in the middle of an effect: the next one finishes the work, and the log holds its result once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from domain.kernel import PLATFORM, Sealed, Stream
from domain.signin.events import MagicLinkRequested
from eventstore.port import Append, NewEvent
from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from tests.agents.fake_anthropic import fake_anthropic
from tests.workers.smtp import post_office
from tests.workers.tally import running, until
from tests.workers.test_reactor_summaries import INPUT, READ_MODELS, facts, kept, over, says
from tests.workers.test_sessions_live import tell
from workers.projector import run_projector
from workers.projector.host import Workshop

pytestmark = [pytest.mark.crash, pytest.mark.integration]
ROOT = Path(__file__).resolve().parents[2]
KILLS = 3


@pytest.fixture
def settings(postgres_url: str, master_key_file: Path) -> Settings:
    return Settings(database_url=postgres_url, nats_url="nats://127.0.0.1:9", key_file=str(master_key_file))


@contextmanager
def reactor_process(settings: Settings, folder: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A real `crewkit worker reactor`, killed with SIGKILL at the end of the block."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CREWKIT_")}
    env = {
        **clean,
        "CREWKIT_DATABASE_URL": settings.database_url or "",
        "CREWKIT_NATS_URL": settings.nats_url or "",
        "CREWKIT_KEY_FILE": settings.key_file or "",
        "CREWKIT_DATA_DIR": str(folder),
        **more,
    }
    words = [sys.executable, "-I", str(ROOT / "crewkit.py"), "worker", "reactor"]
    with (
        (folder / "reactor.log").open("ab") as log,
        subprocess.Popen(words, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


async def more_than(found: Sized, count: int) -> None:
    async def holds() -> bool:
        return len(found) > count

    await until(holds)


async def test_a_reactor_killed_while_a_model_is_asked_loses_and_doubles_nothing(
    shop: Workshop, store: PostgresStore, settings: Settings, tmp_path: Path
) -> None:
    asked: list[dict[str, Any]] = []
    gate = threading.Event()
    with fake_anthropic(says(INPUT), kept=asked, gate=gate) as url:
        more = {
            "CREWKIT_ANTHROPIC_API_KEY": "sk-ant-dummy",
            "CREWKIT_ANTHROPIC_BASE_URL": url,
            "CREWKIT_INSIGHTS_SETTLE_S": "0",
        }
        async with running(run_projector(settings, wanted=READ_MODELS)):
            await tell(store, facts())
            for n in range(KILLS):
                with reactor_process(settings, tmp_path, **more):
                    await more_than(asked, n)
            gate.set()
            with reactor_process(settings, tmp_path, **more):
                assert await over(shop, 1) == [("done", None)]
    assert len(await kept(store)) == 1
    assert len(asked) == KILLS + 1  # the model has no means to recognise a repeat: asked at least once
    assert await shop.pool.fetchval("SELECT tries FROM crewkit.reaction") == KILLS + 1

    async def nobody_left() -> bool:
        return not await shop.pool.fetchval("SELECT count(*) FROM crewkit.reaction WHERE running")

    await until(nobody_left)


async def test_a_reactor_killed_between_the_servers_yes_and_its_own_note_sends_a_recognisable_repeat(
    store: PostgresStore, settings: Settings, tmp_path: Path
) -> None:
    user = uuid4()
    now = datetime.now(UTC)
    event = MagicLinkRequested(
        link_id="0" * 64,
        user_id=user,
        email=Sealed(user, "ada@example.com"),
        token=Sealed(user, "secret"),
        requested_at=now,
        expires_at=now + timedelta(minutes=15),
    )
    place = Stream("MagicLink", "0" * 64)
    await store.append(Append(org_id=PLATFORM, stream=place, events=[NewEvent(event)], facts=True))
    async with post_office() as office:
        more = {
            "CREWKIT_SMTP_HOST": "127.0.0.1",
            "CREWKIT_SMTP_PORT": str(office.port),
            "CREWKIT_SMTP_SECURITY": "none",
        }
        for n in range(KILLS):
            with reactor_process(settings, tmp_path, **more) as process:
                office.on_arrival = process.kill  # before the server says yes: nobody can have noted it
                await more_than(office.arrived, n)
        office.on_arrival = lambda: None

        async def noted() -> bool:
            return await store.pool.fetchval("SELECT state = 'done' FROM crewkit.reaction") is True

        with reactor_process(settings, tmp_path, **more):
            await until(noted)
    assert len(office.arrived) == KILLS + 1
    assert len({mail["Message-ID"] for mail in office.arrived}) == 1
    assert len({mail.as_bytes() for mail in office.arrived}) == 1
    assert await store.pool.fetchval("SELECT count(*) FROM crewkit.event WHERE type = 'email.sent.v1'") == 1
