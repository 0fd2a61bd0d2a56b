"""Commands that start, stop, look at and repair the processes of crewkit.

Everything heavy is imported inside the commands: `crewkit --help` and the hook path load this package too.
"""

from __future__ import annotations

from cli.processes.doctor import doctor
from cli.processes.projections import projections, rebuild
from cli.processes.reactions import reactions
from cli.processes.run import migrate, prepare, serve, worker
from cli.processes.status import status
from cli.processes.up import down, up
from cli.processes.users import signing_keys, users

__all__ = [
    "doctor",
    "down",
    "migrate",
    "prepare",
    "projections",
    "reactions",
    "rebuild",
    "serve",
    "signing_keys",
    "status",
    "up",
    "users",
    "worker",
]
