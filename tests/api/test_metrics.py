"""Numbers of several processes behind one port stay apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.app import create_app
from api.metrics import Metrics
from eventstore.settings import Settings


def test_each_of_several_workers_tells_series_of_its_own() -> None:
    texts = []
    for name in ("1", "2"):
        metrics = Metrics(name)
        metrics.observe("/x", "GET", 200, 0.1)
        texts.append(metrics.exposition().decode())
    for name, text in zip(("1", "2"), texts, strict=True):
        assert f'crewkit_http_requests_total{{method="GET",route="/x",status="200",worker="{name}"}} 1.0' in text
        samples = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert all(f'worker="{name}"' in line for line in samples)
    assert "worker=" not in Metrics().exposition().decode()


@pytest.mark.parametrize(("workers", "labelled"), [(1, False), (2, True)])
def test_the_label_appears_only_where_there_are_several(workers: int, labelled: bool, tmp_path: Path) -> None:
    settings = Settings(
        database_url="postgresql://nobody@127.0.0.1:1/none", data_dir=str(tmp_path), api_workers=workers
    )
    shown = create_app(settings).edge_metrics.exposition().decode()
    assert ("worker=" in shown) is labelled
