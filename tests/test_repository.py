"""What must hold for the repository as a whole: layout, wheel contents, nothing of our machines in it."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("domain", "eventstore", "commands", "projections", "schemas", "api", "workers", "cli")
# Spelled with character classes and in pieces, so that this file does not find itself.
FORBIDDEN = {
    "a package index host": re.compile(r"pypi[.]org|python[h]osted|npmjs[.]org|deb[.]debian"),
    "a path of one machine": re.compile(r"/(?:work" + r"/main|root/|home/(?!dev\b|you\b)[a-z]+/)"),
}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_comes_from_this_checkout(layer: str) -> None:
    module = importlib.import_module(layer)
    assert Path(str(module.__file__)).resolve().parent == ROOT / layer


def test_no_tracked_file_names_a_registry_host_or_a_machine_path() -> None:
    found = []
    for path in tracked():
        if path.suffix in {".png", ".gz"}:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {what}" for what, pattern in FORBIDDEN.items() if pattern.search(text)]
    assert found == []


def test_every_dependency_is_pinned_with_a_hash() -> None:
    blocks = (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines()
    loose = [line.split()[0] for line in blocks if line.strip() and ("==" not in line or "--hash=sha256:" not in line)]
    assert loose == []


def test_required_entries_stand_at_the_root() -> None:
    needed = [
        *LAYERS,
        "tests",
        "deploy",
        "docs",
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "Makefile",
        "crewkit.py",
        ".ci/run",
    ]
    assert [name for name in needed if not (ROOT / name).exists()] == []


def test_make_explains_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    documented = set(re.findall(r"^([a-z-]+):.*?## ", text, re.MULTILINE))
    promised = {
        "help", "demo", "up", "down", "restart", "logs", "test", "test-cov", "check", "lint", "format", "types", "wheel",
        "bench", "db-shell", "nats-shell", "init", "run-local", "build",
    }  # fmt: skip
    assert promised <= documented
