"""Which pages of other sites may read answers of the API (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

import re

from litestar.config.cors import CORSConfig

from api.answers import POSITION

_ORIGIN = re.compile(r"\*|https?://[^\s/*,?#@]+", re.ASCII)
# What a client may act on; the rest of the headers a browser shows anyway, or nobody needs.
_SHOWN = ("Content-Disposition", "Content-Range", "ETag", "Location", "Retry-After", "X-Request-Id", POSITION)


def cors_of(origins: str | None) -> CORSConfig | None:
    """`CREWKIT_CORS_ORIGINS` as the framework wants it; None: no other site.

    Without credentials: a page of another site brings a token or key of its own, never our cookie.

    Raises:
        ValueError: one of them is no origin, such as an address with a path.
    """
    named = [one.strip() for one in (origins or "").split(",") if one.strip()]
    for one in named:
        if not _ORIGIN.fullmatch(one):
            raise ValueError(
                f"CREWKIT_CORS_ORIGINS: expected origins such as https://dashboards.example.com, got {one!r}"
            )
    if not named:
        return None
    return CORSConfig(allow_origins=named, allow_credentials=False, expose_headers=list(_SHOWN))
