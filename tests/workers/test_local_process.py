"""Processes are told apart, stopped, and never outlive who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers.local.files import (
    AlreadyLockedError,
    FileLock,
    forsaken_places,
    own_folder,
    secret,
    trim_log,
    within_reach,
    write_private,
)
from workers.local.instance import Instance, Processes, read_instance, read_processes, write_instance, write_processes
from workers.local.ports import free_port, is_free, listen, owner
from workers.local.process import Account, Identity, can_enter, identify, is_running, server_environment, spawn, stop

SLEEPER = [sys.executable, "-I", "-c", "import time; time.sleep(60)"]
ROOT = os.geteuid() == 0


def _gone(identity: Identity) -> bool:
    deadline = time.monotonic() + 20
    while is_running(identity):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_running_process_is_known_by_pid_and_start() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert is_running(me)
    assert not is_running(Identity(me.pid, "another start"))


def test_a_zombie_does_not_run() -> None:
    process = subprocess.Popen([sys.executable, "-I", "-c", ""])
    deadline = time.monotonic() + 20
    while identify(process.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert identify(process.pid) is None  # ended, and not reaped yet
    os.kill(process.pid, 0)  # the pid still exists
    process.wait()


def test_a_deaf_process_is_killed() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-I", "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        identity = identify(process.pid)
        assert identity is not None
        assert not stop(identity, signal.SIGTERM, 0.2)
        assert process.wait() == -signal.SIGKILL
    assert stop(identity, signal.SIGTERM, 0.2)  # gone already


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux signals children of a dead parent")
def test_children_end_when_their_starter_is_killed(tmp_path: Path) -> None:
    program = f"""
import signal, sys, time
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from workers.local.process import spawn
child = spawn({SLEEPER!r}, log=None, cwd=Path("/"), env={{}}, death_signal=signal.SIGTERM)
print(child.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-I", "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = identify(int(parent.stdout.readline()))
        assert child is not None
        parent.kill()
        parent.wait()
    assert _gone(child)


def test_output_goes_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    process = spawn(
        [sys.executable, "-I", "-c", "print('said')"], log=log, cwd=tmp_path, env={}, death_signal=signal.SIGTERM
    )
    assert process.wait() == 0
    assert log.read_text() == "said\n"


def test_servers_see_no_secrets_of_ours() -> None:
    seen = server_environment({"PATH": "/bin", "CREWKIT_API_KEY": "x", "PGPASSWORD": "x", "AWS_SECRET": "x"})
    assert seen == {"PATH": "/bin", "LC_ALL": "C.UTF-8"}


def test_a_lock_has_one_holder_and_ends_with_it(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire()
    first.acquire()  # ours already
    with pytest.raises(AlreadyLockedError):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_private_files_are_private_and_whole(tmp_path: Path) -> None:
    write_private(tmp_path / "a" / "file", "text")
    assert (tmp_path / "a" / "file").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    first = secret(tmp_path / "keys" / "password")
    assert len(first) == 32
    assert secret(tmp_path / "keys" / "password") == first


def test_long_logs_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.local.files.LOG_BYTES_MAX", 10)
    log = tmp_path / "a.log"
    with log.open("ab") as output:
        output.write(b"x" * 11)
        output.flush()
        trim_log(log)
        output.write(b"after")
    assert log.read_bytes() == b"after"
    assert (tmp_path / "a.log.1").read_bytes() == b"x" * 11
    trim_log(tmp_path / "none.log")


@pytest.mark.skipif(not ROOT, reason="only root runs servers under another account")
def test_as_root_a_closed_home_stays_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "var"
    monkeypatch.setattr("workers.local.files.ROOT_STATE", state)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    nobody = Account("nobody", 65534, 65534)
    made = own_folder(home / "postgres", nobody)
    assert made.parent == state
    assert (home / "postgres").resolve() == made
    assert home.stat().st_mode & 0o777 == 0o700
    assert made.stat().st_uid == nobody.uid
    assert own_folder(home / "postgres", nobody) == made  # the second time it is found, not made
    assert forsaken_places() == []
    (home / "postgres").unlink()
    assert forsaken_places() == [made]


@pytest.mark.skipif(not ROOT, reason="only root runs servers under another account")
def test_as_root_programs_in_a_closed_home_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.local.files.ROOT_STATE", tmp_path / "var")
    home = tmp_path / "home"
    (home / "package" / "bin").mkdir(parents=True)
    (home / "package" / "bin" / "tool").write_text("#!/bin/sh\n")
    home.chmod(0o700)
    nobody = Account("nobody", 65534, 65534)
    root = within_reach(home, ["package"], "tool-1", nobody)
    assert root == tmp_path / "var" / "programs" / "tool-1"
    assert (root / "package" / "bin" / "tool").exists()
    assert within_reach(home, ["package"], "tool-1", None) == home


def test_everyone_may_enter_where_no_account_is_needed(tmp_path: Path) -> None:
    assert can_enter(tmp_path / "x", None)


def test_a_listening_port_is_taken_and_its_owner_named() -> None:
    with listen("127.0.0.1", 0) as server:
        port = server.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        found = owner(port)
        assert found is not None
        assert found.pid == os.getpid()
        assert f"process {os.getpid()}" in str(found)
        assert free_port("127.0.0.1", port) != port
    assert free_port("127.0.0.1", port) == port


def test_the_instance_file_is_private_and_survives_nonsense(tmp_path: Path) -> None:
    assert read_instance(tmp_path) is None
    write_instance(tmp_path, Instance(url="http://127.0.0.1:1", api_key="ck_x", organization="default"))
    assert (tmp_path / "crewkit.json").stat().st_mode & 0o777 == 0o600
    found = read_instance(tmp_path)
    assert found is not None
    assert found.organization == "default"
    (tmp_path / "crewkit.json").write_text("{")
    assert read_instance(tmp_path) is None


def test_recorded_processes_run_only_while_they_do(tmp_path: Path) -> None:
    me = identify(os.getpid())
    assert me is not None
    write_processes(tmp_path, Processes({"me": me, "reused": Identity(me.pid, "earlier")}, {"postgres": 1}))
    assert read_processes(tmp_path).running() == {"me": me}
