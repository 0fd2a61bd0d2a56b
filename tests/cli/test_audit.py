"""`crewkit audit` over the real application: an export, its proof, tampering, two exports, exit codes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.api.conftest import app, house, live, master_key_file, postgres_url, settings
from tests.api.test_proof import happen, sealed
from tests.cli.test_sessions import Desk, desk

__all__ = ["app", "desk", "house", "live", "master_key_file", "postgres_url", "settings"]  # fixtures


async def filled(desk: Desk, name: str) -> str:
    import httpx  # noqa: PLC0415

    async with httpx.AsyncClient(base_url=desk.live.url, timeout=30) as http:
        await happen(http, desk.house.ours, 8, name)
        await happen(http, desk.house.theirs, 8, name)
    return (await sealed(desk.house)).public.fingerprint


async def test_an_export_is_proven_offline_and_a_changed_one_is_not(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = await filled(desk, "a")
    file = tmp_path / "one.jsonl"
    await desk.run("audit", "export", "--out", str(file))
    for name in ("CREWKIT_URL", "CREWKIT_API_KEY", "CREWKIT_ORGANIZATION"):
        monkeypatch.delenv(name)
    done = await desk.run("audit", "verify", str(file), "--pin", pin)
    assert "proven" in done.stdout
    assert "the key you named" in done.stdout
    assert "NOT compared" in (await desk.run("audit", "verify", str(file))).stdout
    told = json.loads((await desk.run("audit", "verify", str(file), "--json", "--pin", pin)).stdout)
    assert told["ok"]
    assert told["files"][0]["pinned"]
    assert told["files"][0]["last_checkpoint"]["number"] == 1
    key = json.loads(file.read_text().splitlines()[0])["keys"][0]
    (tmp_path / "key").write_text(key + "\n")
    for named in (key, str(tmp_path / "key")):
        await desk.run("audit", "verify", str(file), "--key", named)
    changed = tmp_path / "changed.jsonl"
    changed.write_text(file.read_text().replace("UserPrompt", "UserPrimpt", 1))
    done = await desk.run("audit", "verify", str(changed), check=1)
    assert "TAMPERED" in done.stdout
    assert "position" in done.stdout
    told = json.loads((await desk.run("audit", "verify", str(changed), "--json", check=1)).stdout)
    assert told["ok"] is False
    assert told["files"][0]["problems"][0]["position"] > 0
    done = await desk.run("audit", "verify", str(file), "--pin", "sha256:" + "0" * 64, check=1)
    assert "not by the given key" in done.stdout


async def test_two_exports_are_compared(desk: Desk, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("old.jsonl.gz", "new.jsonl", "part.jsonl")]
    await filled(desk, "a")
    await desk.run("audit", "export", "--out", str(files[0]))
    assert gzip.decompress(files[0].read_bytes()).startswith(b'{"kind":"head"')
    await filled(desk, "b")
    await desk.run("audit", "export", "--out", str(files[1]), "--against", str(files[0]))
    await desk.run("audit", "export", "--out", str(files[2]), "--after", "1")
    old, new, part = map(str, files)
    told = json.loads((await desk.run("audit", "verify", old, new, "--json")).stdout)
    assert (told["continues"]["ok"], told["continues"]["log_shown"]) == (True, True)
    assert "continues" in (await desk.run("audit", "verify", old, part)).stdout
    assert "older" in (await desk.run("audit", "verify", new, old, check=2)).stderr


async def test_wrong_usage_is_told_apart_from_tampering(desk: Desk, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    torn = tmp_path / "torn.gz"
    torn.write_bytes(gzip.compress(b"x" * 1000)[:20])
    await desk.run("audit", "verify", str(empty), check=1)
    for arguments in (
        ["verify", str(tmp_path / "missing")],
        ["verify", str(torn)],
        ["verify", str(empty), str(empty), str(empty)],
        ["verify", str(empty), "--pin", "sha256:12"],
        ["verify", str(empty), "--key", str(tmp_path / "missing")],
        ["verify", str(empty), "--key", str(empty)],
        ["export", "--against", str(empty)],
    ):
        await desk.run("audit", *arguments, check=2)
    await desk.run("audit", "export", "--out", str(tmp_path / "out"), check=1)  # nothing is sealed yet
    assert not (tmp_path / "out").exists()


async def test_an_export_can_go_through_a_pipe(desk: Desk) -> None:
    await filled(desk, "a")
    done = await desk.run("audit", "export", "--out", "-")
    assert json.loads(done.stdout.splitlines()[-1])["kind"] == "end"


async def test_a_person_is_listed_erased_and_certified(desk: Desk) -> None:
    import httpx  # noqa: PLC0415

    from tests.api.test_erasure import ADA, tell  # noqa: PLC0415

    async with httpx.AsyncClient(base_url=desk.live.url, timeout=30) as http:
        await tell(http, desk.house)
    await desk.house.project()
    listed = (await desk.run("people", "list")).stdout
    (line,) = [one for one in listed.splitlines() if ADA["email"] in one]
    person = line.split()[0]
    assert ADA["name"] in line
    await desk.run("people", "erase", person, check=2)  # no reason
    await desk.run("people", "erase", person, "--reason", "subject_request", check=1)  # nobody said yes
    assert ADA["email"] in (await desk.run("people", "list")).stdout
    done = await desk.run("people", "erase", person, "--reason", "subject_request", "--yes", "--json")
    certificate = json.loads(done.stdout)
    await desk.house.project()
    listed = (await desk.run("people", "list")).stdout
    assert ADA["email"] not in listed
    assert f"{person}  erased" in listed
    shown = await desk.run("audit", "certificate", certificate["erasure_id"])
    assert f"subject {desk.house.ours.org_id} {person} key" in shown.stdout
    assert "NOT compared" in shown.stdout
    pin = (await sealed(desk.house)).public.fingerprint
    assert "you named" in (await desk.run("audit", "certificate", certificate["erasure_id"], "--pin", pin)).stdout
    await desk.run("audit", "certificate", certificate["erasure_id"], "--pin", "sha256:" + "0" * 64, check=1)
    await desk.run("audit", "certificate", "00000000-0000-4000-8000-000000000000", check=1)


async def test_everything_about_a_person_is_fetched_as_one_file(desk: Desk, tmp_path: Path) -> None:
    import zipfile  # noqa: PLC0415

    import httpx  # noqa: PLC0415

    from tests.api.test_data_exports import written  # noqa: PLC0415
    from tests.api.test_erasure import ADA, CANARY, ada_of, tell  # noqa: PLC0415

    async with httpx.AsyncClient(base_url=desk.live.url, timeout=30) as http:
        await tell(http, desk.house)
        await desk.house.project()
        ada = await ada_of(http, desk.house)
    out = tmp_path / "ada.zip"
    done = await desk.run("people", "export", str(ada), "--out", str(out), "--wait", "0", check=1)
    assert "not ready yet" in done.stderr
    await written(desk.house)
    for _ in range(2):  # the same archive both times
        await desk.run("people", "export", str(ada), "--out", str(out), "--wait", "0")
        file = zipfile.ZipFile(out)
        assert json.loads(file.read("person.json"))["emails"] == [ADA["email"]]
        assert CANARY in file.read(f"events/{desk.house.ours.org_id}.jsonl").decode()
    await desk.run("people", "export", "00000000-0000-4000-8000-000000000000", "--out", str(out), check=1)
