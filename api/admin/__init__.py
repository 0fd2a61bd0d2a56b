"""Administration by the staff of the installation.  Whatever they look at or do is told first; see `api/admin/notes.py`."""

from __future__ import annotations

from litestar import Router

from api.admin import certificates, history, organizations, projects, stats, users

ROUTER = Router(
    "/",
    route_handlers=[
        *users.HANDLERS,
        *organizations.HANDLERS,
        *projects.HANDLERS,
        *certificates.HANDLERS,
        *history.HANDLERS,
        *stats.HANDLERS,
    ],
    tags=["admin"],
)
