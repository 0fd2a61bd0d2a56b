"""The peer of single-event POSTs: Litestar hello-world on uvicorn with the settings `crewkit serve` uses.

`python -m tests.benchmarks.peers.hello PORT`
"""

from __future__ import annotations

import sys

import uvicorn
from litestar import Litestar, get


@get("/")
async def hello() -> str:
    """The least an application can do."""
    return "hello, world"


def main() -> int:
    """Serve until SIGTERM."""
    uvicorn.run(
        Litestar([hello], openapi_config=None),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=65,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
