"""A real Chromium over the real application; skipped where none is installed."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from api.app import create_app
from eventstore.settings import Settings
from tests.api.conftest import house, master_key_file, postgres_url, settings
from tests.api.house import House, serving

__all__ = ["house", "master_key_file", "postgres_url", "settings"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


@pytest.fixture
def chrome(tmp_path: Path) -> Iterator[Chrome]:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs Chromium and chromedriver (on Debian: apt-get install chromium chromium-driver)")
    options = ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(flag)
    found = Chrome(options=options, service=Service(driver))
    found.set_page_load_timeout(60)
    yield found
    found.quit()


class Site:
    """The application at http://localhost:PORT, whose read models follow the log by themselves."""

    def __init__(self, url: str, http: httpx.AsyncClient, house: House) -> None:
        self.url = url
        self.http = http
        self.house = house


@pytest.fixture
async def site(settings: Settings, house: House) -> AsyncIterator[Site]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://localhost:{port}"
    used = msgspec.structs.replace(settings, public_url=url, read_after_wait_s=20.0)
    async with serving(create_app(used), port), httpx.AsyncClient(base_url=url, timeout=30) as http:
        stop = asyncio.Event()
        following = asyncio.create_task(_follow(house, stop))
        yield Site(url, http, house)
        stop.set()
        await following


async def _follow(house: House, stop: asyncio.Event) -> None:
    seen = -1
    while not stop.is_set():
        if (head := await house.store.head()) != seen:
            await house.project()
            seen = head
        await asyncio.sleep(0.05)


def text_of(chrome: Any) -> str:
    return str(chrome.find_element("tag name", "main").text)
