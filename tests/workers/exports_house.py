"""Exports of two organizations: a real server, a real worker, recorded sessions."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import httpx

from tests.api.house import House, Place

PATIENCE = 500  # looks at an export until it must be over
PAUSE_S = 0.02


class Counter:
    """Where exports are asked for."""

    def __init__(self, http: httpx.AsyncClient, house: House) -> None:
        self.http = http
        self.house = house

    async def ask(
        self,
        place: Place | None = None,
        *,
        status: int = 202,
        key: str = "read",
        wishes: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Any:
        place = place or self.house.ours
        answer = await self.http.post(
            f"{place.base}/exports", json={**(wishes or {}), **more}, headers=place.headers(key)
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    async def over(self, path: str, place: Place | None = None) -> Any:
        """The export once no worker works on it any more."""
        place = place or self.house.ours
        told: Any = None
        for _ in range(PATIENCE):
            await self.house.project()
            told = (await self.http.get(path, headers=place.headers("read"))).json()
            if told["status"] != "requested":
                return told
            await asyncio.sleep(PAUSE_S)
        raise AssertionError(told)

    async def made(self, place: Place | None = None, **wishes: Any) -> Any:
        """A new export, ready."""
        asked = await self.ask(place, **wishes)
        told = await self.over(asked["_links"]["self"], place)
        assert told["status"] == "ready", told
        return told

    async def fetch(
        self, told: Any, place: Place | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        place = place or self.house.ours
        return await self.http.get(told["_links"]["download"], headers={**place.headers("read"), **(headers or {})})

    async def database(self, folder: Path, place: Place | None = None, **wishes: Any) -> Path:
        """A new DuckDB export as a file."""
        answer = await self.fetch(await self.made(place, **wishes), place)
        path = folder / "crewkit.duckdb"
        path.write_bytes(answer.content)
        return path

    async def archive(self, place: Place | None = None, **wishes: Any) -> tuple[Any, zipfile.ZipFile]:
        """A new export of files, and its archive."""
        told = await self.made(place, **wishes)
        answer = await self.fetch(told, place)
        assert answer.status_code == 200, answer.text
        file = zipfile.ZipFile(io.BytesIO(answer.content))
        assert file.testzip() is None
        return told, file


def rows(path: Path, sql: str) -> list[dict[str, Any]]:
    """What a query of a database answers."""
    connection = duckdb.connect(str(path), read_only=True)
    try:
        found = connection.execute(sql)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    finally:
        connection.close()
