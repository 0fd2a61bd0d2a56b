"""What tests of workers share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import nats
import pytest

from tests.workers.analytics_house import Asker, subject


@pytest.fixture
async def asker(nats_url: str) -> AsyncIterator[Asker]:
    """Somebody who asks analytics workers of a queue group of their own."""
    client = await nats.connect(nats_url)
    yield Asker(client, subject())
    await client.close()
