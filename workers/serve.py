"""The HTTP service as a process: uvicorn with uvloop and httptools on a socket that is already listening."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eventstore.observe import configure
from eventstore.settings import Settings
from workers.main import SUPERVISOR_VARIABLE, command, follow_supervisor
from workers.supervisor import Program, Supervisor

APPLICATION = "api.app:create_app"
STOP_WAIT_S = 5  # how long open requests (live streams never end by themselves) may go on after SIGTERM
SOCKET_MESSAGE_BYTES_MAX = 4096  # live streams listen to nothing
HEALTH_TIMEOUT_S = 2.0
HEALTH_PATH = "/health"
_KEEP_ALIVE_S = 65  # longer than the idle time of common load balancers (60 s)
# A batch of events is thousands of short-lived objects and no cycles.  With Python's defaults (700, 10, 10) the collector
# looked at each of them several times: a third of what a batch cost.
_COLLECT_AFTER = (50_000, 20, 50)


def trusting(settings: Settings) -> dict[str, Any]:
    """How uvicorn learns the caller's address: from the connection, or, behind the proxies that are named, from them."""
    return {"proxy_headers": bool(settings.trusted_proxies), "forwarded_allow_ips": settings.trusted_proxies or ""}


def run_api(settings: Settings, listening: socket.socket) -> None:
    """Serve on `listening` until SIGTERM or SIGINT.  Several processes may share one socket."""
    import uvicorn  # noqa: PLC0415  the supervisor imports this module and must stay small

    configure(settings.log_format, settings.log_level, process="api")
    follow_supervisor()
    unix = sys.platform != "win32"
    config = uvicorn.Config(
        APPLICATION,
        factory=True,
        loop="uvloop" if unix else "auto",
        http="httptools",
        ws="wsproto",
        ws_max_size=SOCKET_MESSAGE_BYTES_MAX,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        **trusting(settings),
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_WAIT_S,
    )
    gc.set_threshold(*_COLLECT_AFTER)
    config.load()
    gc.collect()
    gc.freeze()  # modules, routes and schemas live as long as the process
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def health(host: str, port: int) -> dict[str, Any] | None:
    """The service's own report; None when nobody answers or the answer is no report.  `http_status` is added."""
    connection = http.client.HTTPConnection(host, port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", HEALTH_PATH)
        answer = connection.getresponse()
        report = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return {**report, "http_status": answer.status} if isinstance(report, dict) else None


def is_healthy(host: str, port: int, needs: Sequence[str] = ("database", "nats")) -> bool:
    """Whether the service answers, the parts it `needs` do, and projections have begun.

    Loss that outlives a restart (a projection that failed, a long way to catch up) does not make a start fail; it is shown
    by `crewkit status` and `crewkit doctor`.
    """
    report = health(host, port)
    if report is None or report["http_status"] != 200:
        return False
    parts: dict[str, dict[str, Any]] = report.get("components", {})
    ready = all(parts.get(name, {}).get("status") == "ok" for name in needs)
    return ready and "projections" not in parts  # which stands there until a projector has run


def has_caught_up(host: str, port: int) -> bool:
    """Whether everything stored is published and readable; not waited for are a projection that failed, and, while NATS is
    away, the relay.
    """
    parts: dict[str, dict[str, Any]] = (health(host, port) or {}).get("components", {})
    carried = parts.get("nats", {}).get("status") == "ok"
    behind = [name for name, part in parts.items() if _lag(part) and (carried or name != "relay")]
    return bool(parts) and not behind


def _lag(part: dict[str, Any]) -> int:
    details: dict[str, Any] = part.get("details", {})
    return 0 if details.get("state") == "failed" else int(details.get("lag", 0))


async def run_group(settings: Settings, listening: socket.socket, count: int) -> None:
    """Serve with `count` processes that share one socket, each restarted when it ends, until SIGTERM or SIGINT."""
    configure(settings.log_format, settings.log_level, process="serve")
    supervisor = Supervisor(None, lambda: None)
    handle = listening.fileno()
    programs = [
        Program(
            name=f"serve-{number}",
            command=command("serve", "--fd", str(handle)),
            env={**os.environ, SUPERVISOR_VARIABLE: str(os.getpid())},
            cwd=Path("/"),
            handles=(handle,),
        )
        for number in range(1, count + 1)
    ]
    stopping = asyncio.Event()
    for how in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(how, stopping.set)
    await supervisor.start(programs)
    watching = asyncio.create_task(supervisor.watch())
    await stopping.wait()
    watching.cancel()
    await supervisor.stop()
