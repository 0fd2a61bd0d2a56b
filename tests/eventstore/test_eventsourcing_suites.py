"""The recorder suites that the `eventsourcing` library ships for implementers, run against our Postgres store.

The library offers two AES ciphers of the same interface; its suites import the one that needs a package we do not install.
They never encrypt anything here, so the other one, over `cryptography`, stands in for the import.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import eventsourcing.cryptography
import pytest

from tests.eventstore.library_recorder import CrewkitAggregateRecorder, CrewkitApplicationRecorder, StoreThread

sys.modules.setdefault("eventsourcing.cipher", eventsourcing.cryptography)

from eventsourcing.persistence import AggregateRecorder, ApplicationRecorder  # noqa: E402
from eventsourcing.tests import persistence as suites  # noqa: E402


class OverPostgres:
    """One fresh database and one store per test."""

    thread: StoreThread

    @pytest.fixture(autouse=True)
    def _store(self, postgres_url: str) -> Iterator[None]:
        self.thread = StoreThread(postgres_url)
        yield
        self.thread.close()


class TestAggregateRecorder(OverPostgres, suites.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return CrewkitAggregateRecorder(self.thread)


class TestApplicationRecorder(OverPostgres, suites.ApplicationRecorderTestCase[Any]):
    def create_recorder(self) -> ApplicationRecorder:
        return CrewkitApplicationRecorder(self.thread)

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNonInterleaving(OverPostgres, suites.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> ApplicationRecorder:
        return CrewkitApplicationRecorder(self.thread)
