"""`crewkit up`: everything on one machine, started in order, watched, and stopped without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from eventstore.settings import Settings
from workers.local import instance as records
from workers.local.files import AlreadyLockedError, FileLock, secret
from workers.local.instance import SUPERVISOR, Instance, Processes
from workers.local.nats import Nats
from workers.local.places import Places, UnusableFolderError, version
from workers.local.ports import NEXT_PORTS_MAX, listen, owner
from workers.local.postgres import CONNECTIONS_MAX, Postgres
from workers.local.process import identify, server_environment, stop
from workers.local.server import Server
from workers.main import SUPERVISOR_VARIABLE, WORKERS, available_workers, command
from workers.serve import has_caught_up, is_healthy
from workers.supervisor import Program, Supervisor

PREPARE_MAX_S = 900.0  # migrations of a large database
READY_MAX_S = 120.0
CATCH_UP_MAX_S = 10.0
CATCH_UP_POLL_S = 0.05
NATS_WAIT_MAX_S = 5.0  # for a server that is not ours; without it everything but live views works
ORPHAN_STOP_MAX_S = 15.0
WORKERS_MAX = 64
CONNECTIONS_PER_API = 12  # its pool, its writer, and one more
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  compared, not bound to

Say = Callable[[str], None]


class PortBusyError(Exception):
    """Somebody else listens on the port; the message names the process."""


class AlreadyRunningError(Exception):
    """Another `crewkit up` runs on the data directory; the message says where."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the person asked for."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8000
    api_workers: int = 1
    next_free_port: bool = False


class Machine:
    """One `crewkit up`."""

    def __init__(self, settings: Settings, wanted: Wanted, say: Say) -> None:
        self._settings = settings
        self._wanted = wanted
        self._say = say
        self._places = Places(wanted.data_dir)
        self._lock = FileLock(self._places.lock)
        self._supervisor = Supervisor(self._places.logs, self._record)
        self._postgres: Postgres | None = None
        self._nats: Nats | None = None
        self._listening: socket.socket | None = None
        self._instance: Instance | None = None
        self._started_at = datetime.now(UTC)

    async def run(self) -> None:
        """Start everything, say where it is, run until SIGTERM or SIGINT, stop everything.

        Raises:
            AlreadyRunningError, PortBusyError, UnusableFolderError, ServerError, StartError: why it could not start; nothing
                is left running.
        """
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        if self._places.are_new():
            self._listening = listen_for(self._wanted)  # first: a start that is refused leaves nothing behind
        try:
            self._places.make()
            self._take_lock()
        except OSError as error:
            self._close()
            raise UnusableFolderError(self._places.root, error) from error
        except BaseException:
            self._close()
            raise
        work = asyncio.ensure_future(self._start())
        for how in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(how, self._on_signal, stopping, work)
        watching: asyncio.Task[None] | None = None
        try:
            self._stop_orphans()
            if self._listening is None:
                self._listening = listen_for(self._wanted)
            watching = asyncio.create_task(self._supervisor.watch())
            with contextlib.suppress(asyncio.CancelledError):
                await work
            if not stopping.is_set():
                await stopping.wait()
        finally:
            work.cancel()
            if self._instance is not None:
                self._say("stopping …")
            if watching is not None:
                watching.cancel()
            await self._stop()

    def _on_signal(self, stopping: asyncio.Event, work: asyncio.Future[None]) -> None:
        if stopping.is_set():
            self._supervisor.kill()  # asked twice: no more waiting
        stopping.set()
        work.cancel()

    def _take_lock(self) -> None:
        try:
            self._lock.acquire()
        except AlreadyLockedError as error:
            running = records.supervisor_of(self._places.root)
            found = records.read_instance(self._places.root)
            where = f" at {found.url}" if found and found.pids else " (still starting)"
            process = f", process {running.pid}" if running else ""
            raise AlreadyRunningError(
                f"crewkit already runs on {self._places.root}{where}{process}; stop it with `crewkit down`, "
                "or choose another folder with --data-dir"
            ) from error
        me = identify(os.getpid())
        before = records.read_processes(self._places.root)
        if me is not None:
            records.write_processes(self._places.root, Processes({**before.known, SUPERVISOR: me}, before.ports))

    def _stop_orphans(self) -> None:
        """End what an earlier supervisor left behind when it was killed; servers are seen to by their own `prepare`."""
        left = records.read_processes(self._places.root).running()
        for name, identity in left.items():
            if name not in {SUPERVISOR, Postgres.name, Nats.name}:
                self._say(f"stopping {name} (process {identity.pid}) of an earlier run that was killed")
                stop(identity, signal.SIGTERM, ORPHAN_STOP_MAX_S)

    async def _start(self) -> None:
        places, supervisor = self._places, self._supervisor
        servers = self._servers()
        known = records.read_processes(places.root).ports
        # Threads: making a database takes a second, and signals must be heard meanwhile.
        await asyncio.gather(*(asyncio.to_thread(server.prepare, known.get(server.name, 0)) for server in servers))
        await supervisor.start([self._server_program(server) for server in servers])
        env = self._child_environment()
        await supervisor.run_once(
            self._program("prepare", env, "prepare", "--data-dir", str(places.root)), PREPARE_MAX_S
        )
        await supervisor.start(
            [*self._api_programs(env), *(self._program(name, env, "worker", name) for name in available_workers())]
        )
        await supervisor.settle()
        await self._catch_up()
        self._instance = self._describe()
        self._say(self._greeting(self._instance))  # before the record: who waits for that reads this
        if not await asyncio.to_thread(is_healthy, reachable_host(self._wanted.host), self._port(), needs=("nats",)):
            self._say(
                f"NATS does not answer at {self._instance.nats_url}: events are stored and can be read, live streams and "
                "analytics wait; `crewkit status` shows when it is back"
            )
        self._record()

    async def _catch_up(self) -> None:
        """Wait a little for the read models, so that a key issued just now is known when we tell it."""
        deadline = time.monotonic() + CATCH_UP_MAX_S
        while not await asyncio.to_thread(has_caught_up, reachable_host(self._wanted.host), self._port()):
            if time.monotonic() > deadline:
                self._say("the read models are still behind; `crewkit status` shows how far")
                return
            await asyncio.sleep(CATCH_UP_POLL_S)

    def _servers(self) -> Sequence[Server]:
        servers: list[Server] = []
        if self._settings.database_url is None:
            self._postgres = Postgres(
                self._places.postgres,
                secret(self._places.postgres_password),
                connections_max=CONNECTIONS_MAX + CONNECTIONS_PER_API * self._wanted.api_workers,
            )
            servers.append(self._postgres)
        if self._settings.nats_url is None:
            self._nats = Nats(self._places.nats, secret(self._places.nats_password))
            servers.append(self._nats)
        return servers

    def _server_program(self, server: Server) -> Program:
        return Program(
            name=server.name,
            command=server.command(),
            env=server_environment(),
            cwd=server.home,
            account=server.account,
            stop_signal=server.stop_signal,
            stop_max_s=server.stop_max_s,
            is_ready=server.is_ready,
            ready_max_s=server.start_max_s,
        )

    def _child_environment(self) -> dict[str, str]:
        """What our own processes are told: the person's environment, with every address filled in."""
        settings = self._settings
        database = self._postgres.url() if self._postgres else settings.database_url or ""
        nats = self._nats.url if self._nats else settings.nats_url or ""
        return {
            **os.environ,
            "CREWKIT_DATABASE_URL": database,
            "CREWKIT_NATS_URL": nats,
            "CREWKIT_DATA_DIR": str(self._places.root),
            "CREWKIT_KEY_FILE": settings.key_file or str(self._places.master_key),
            "CREWKIT_HOST": self._wanted.host,
            "CREWKIT_PORT": str(self._port()),
            "CREWKIT_API_WORKERS": "1",
            SUPERVISOR_VARIABLE: str(os.getpid()),
        }

    def _program(self, name: str, env: dict[str, str], *words: str) -> Program:
        return Program(name=name, command=command(*words), env=env, cwd=self._places.root)

    def _api_programs(self, env: dict[str, str]) -> list[Program]:
        """API processes share the listening socket, so that requests wait, and do not fail, while one is restarted."""
        if self._listening is None:
            return []
        handle = self._listening.fileno()
        count = self._wanted.api_workers
        names = ["api"] if count == 1 else [f"api-{number}" for number in range(1, count + 1)]
        healthy = partial(self._serves, time.monotonic() + NATS_WAIT_MAX_S)
        return [
            msgspec.structs.replace(
                self._program(name, env, "serve", "--fd", str(handle)),
                handles=(handle,),
                is_ready=healthy,
                ready_max_s=READY_MAX_S,
            )
            for name in names
        ]

    def _serves(self, needs_nats_until_s: float) -> bool:
        """Whether requests can be served; a NATS server that is not ours is waited for only so long."""
        where = reachable_host(self._wanted.host), self._port()
        if is_healthy(*where):
            return True
        patient = self._nats is not None or time.monotonic() < needs_nats_until_s
        return not patient and is_healthy(*where, needs=("database",))

    def _port(self) -> int:
        return int(self._listening.getsockname()[1]) if self._listening else self._wanted.port

    def _describe(self) -> Instance:
        """What `prepare` wrote (organization and key), with where everything is now."""
        made = records.read_instance(self._places.root) or Instance(url="", api_key="", organization="")
        embedded = [server.name for server in (self._postgres, self._nats) if server is not None]
        database = self._postgres.url(with_password=False) if self._postgres else shown_url(self._settings.database_url)
        return msgspec.structs.replace(
            made,
            url=f"http://{url_host(self._wanted.host)}:{self._port()}",
            started_at=self._started_at,
            version=version(),
            database_url=database,
            nats_url=f"nats://{self._nats.host}:{self._nats.port}"
            if self._nats
            else shown_url(self._settings.nats_url),
            embedded=embedded,
        )

    def _record(self) -> None:
        """Write down which processes run, for `down`, `status` and for whoever starts after us."""
        me = identify(os.getpid())
        known = self._supervisor.identities() | ({SUPERVISOR: me} if me is not None else {})
        ports = {server.name: server.port for server in (self._postgres, self._nats) if server is not None}
        records.write_processes(self._places.root, Processes(known, ports))
        if self._instance is not None:
            pids = {name: identity.pid for name, identity in known.items()}
            self._instance = msgspec.structs.replace(self._instance, pids=pids)
            records.write_instance(self._places.root, self._instance)

    def _greeting(self, ready: Instance) -> str:
        return (
            f"crewkit is ready at {ready.url} (organization {ready.organization!r})\n"
            f"  API reference  {ready.url}/docs\n"
            f"  connection     {self._places.root / records.FILE} (holds the API key)\n"
            f"  logs           {self._places.logs}\n"
            "  next           `crewkit init` connects your coding agent; `crewkit status` shows what runs"
        )

    def _close(self) -> None:
        if self._listening is not None:
            self._listening.close()

    async def _stop(self) -> None:
        """Readers of the log first, its keeper last."""
        api = [name for name in self._supervisor.identities() if name.startswith("api")]
        await self._supervisor.stop(api)
        self._close()
        await self._supervisor.stop(WORKERS)
        await self._supervisor.stop()
        for server in (self._postgres, self._nats):
            if server is not None:
                server.release()
        root = self._places.root
        records.write_processes(root, msgspec.structs.replace(records.read_processes(root), known={}))
        if (last := records.read_instance(root)) is not None:
            records.write_instance(root, msgspec.structs.replace(last, pids={}))
        self._lock.release()


def listen_for(wanted: Wanted) -> socket.socket:
    """A socket that listens where the person asked for, or, where they allow it, on the next free port.

    Raises:
        PortBusyError: there is none; the message names who sits on the port.
    """
    tries = NEXT_PORTS_MAX if wanted.next_free_port and wanted.port else 1
    for port in range(wanted.port, min(wanted.port + tries, 65536)):
        try:
            return listen(wanted.host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise PortBusyError(f"cannot listen on {wanted.host}:{port}: {error.strerror or error}") from error
    who = owner(wanted.port)
    raise PortBusyError(
        f"port {wanted.port} is taken by {who or 'another process'}; choose another with --port, "
        "or let crewkit find one with --next-free-port"
    )


def reachable_host(host: str) -> str:
    """Where to connect to reach a server bound to `host`."""
    return _ANY_ADDRESS.get(host, host)


def url_host(host: str) -> str:
    """`reachable_host` as it stands in a URL."""
    reachable = reachable_host(host)
    return f"[{reachable}]" if ":" in reachable else reachable


def shown_url(url: str | None) -> str:
    """A URL without its password."""
    if not url:
        return ""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user = f"{parts.username}@" if parts.username else ""
    return parts._replace(netloc=user + parts.netloc.rpartition("@")[2]).geturl()
