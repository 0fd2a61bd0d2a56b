"""Who looks at a page: the session cookie, the browser's own random id, and forms that only our pages can send."""

from __future__ import annotations

import re
import secrets
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.response import Redirect

from api.bodies import content_type, read_body
from api.errors import ApiError
from api.pages.rendering import HEADERS
from api.people import BROWSER_COOKIE, COOKIE, SignedIn, check_csrf, csrf_token
from api.services import services_of
from api.visits import BROWSER_CHARS_MAX
from commands.tokens import Pair
from domain.tokens.decide import ACCESS_LIFE
from eventstore.settings import public_url

FORM_BYTES_MAX = 64 * 1024
BROWSER_LIFE_S = 365 * 24 * 3600
NEXT_COOKIE = "crewkit_next"  # where a login leads on to, while the browser waits for a mail
NEXT_LIFE_S = 3600
# Where a login may lead on to: pages of ours, never another site.
_NEXT = re.compile(r"/(device(\?user_code=[A-Za-z-]{0,20})?|invitation\?token=[A-Za-z0-9_-]{1,100}|passkeys)")
NEXT_DEFAULT = "/passkeys"

AnyRequest = Request[Any, Any, Any]


class Visitor:
    """Somebody with a browser, signed in or not."""

    def __init__(self, request: AnyRequest, browser: str, *, new: bool, signed_in: SignedIn | None) -> None:
        self.browser = browser
        self.signed_in = signed_in
        self._new = new
        self._services = services_of(request)

    @property
    def csrf(self) -> str:
        """The token of this visitor's forms; after a login it is the one that the API asks for as well."""
        return csrf_token(self._services.person_secret, self._bound_to)

    @property
    def _bound_to(self) -> str:
        return str(self.signed_in.claims.family_id) if self.signed_in else self.browser

    def check(self, told: str) -> None:
        """Refuse a form that another site sent.

        Raises:
            ApiError: 403.
        """
        check_csrf(self._services.person_secret, self._bound_to, told)

    def known(self, answer: Response[Any]) -> Response[Any]:
        """Let the browser be known again next time."""
        if self._new:
            answer.set_cookie(_cookie(self._services, BROWSER_COOKIE, self.browser, BROWSER_LIFE_S))
        return answer


def _cookie(services: Any, name: str, value: str, max_age_s: int) -> Cookie:
    secure = public_url(services.settings).startswith("https://")
    return Cookie(key=name, value=value, max_age=max_age_s, httponly=True, samesite="lax", secure=secure, path="/")


async def visitor_of(request: AnyRequest) -> Visitor:
    """Who asks.  A session that is over counts as none."""
    told = request.cookies.get(BROWSER_COOKIE, "")
    usable = 16 <= len(told) <= BROWSER_CHARS_MAX and told.isascii()
    signed_in = None
    if token := request.cookies.get(COOKIE):
        try:
            signed_in = await services_of(request).people.who(token)
        except ApiError:
            signed_in = None
    browser = told if usable else secrets.token_urlsafe(24)
    return Visitor(request, browser, new=not usable, signed_in=signed_in)


async def form_of(request: AnyRequest) -> dict[str, str]:
    """The fields of a form.

    Raises:
        ApiError: 415 it is none, 413 it is too large.
    """
    if content_type(request) != "application/x-www-form-urlencoded":
        raise ApiError(415, "this page takes forms")
    body = await read_body(request)
    if len(body) > FORM_BYTES_MAX:
        raise ApiError(413, "the form is too large")
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


async def checked_form(request: AnyRequest, visitor: Visitor) -> dict[str, str]:
    """The fields of a form that one of our pages sent for this visitor.

    Raises:
        ApiError: 403 another site sent it.
    """
    fields = await form_of(request)
    visitor.check(fields.get("csrf_token", ""))
    return fields


def onward(*paths: str | None) -> str:
    """Where to go after a login: the first of `paths` that is a page of ours."""
    return next((path for path in paths if path and _NEXT.fullmatch(path)), NEXT_DEFAULT)


def remembered(request: AnyRequest) -> str | None:
    """Where this browser wanted to go when it was sent to sign in; not to be trusted before `onward` saw it."""
    told = request.cookies.get(NEXT_COOKIE)
    return None if told is None else unquote(told)


def remember(request: AnyRequest, answer: Response[Any], path: str) -> Response[Any]:
    """Know the way on also where it leads through a mail: a link to sign in, an account to open, a new password."""
    answer.set_cookie(_cookie(services_of(request), NEXT_COOKIE, quote(path, safe=""), NEXT_LIFE_S))
    return answer


def redirect(path: str) -> Response[Any]:
    """See other."""
    answer: Response[Any] = Redirect(path, status_code=303)
    answer.headers.update(HEADERS)
    return answer


def open_session(request: AnyRequest, answer: Response[Any], pair: Pair) -> Response[Any]:
    """Sign the browser in for as long as an access token lasts; it is where it wanted to go."""
    if NEXT_COOKIE in request.cookies:
        answer.set_cookie(_cookie(services_of(request), NEXT_COOKIE, "", 0))
    answer.set_cookie(_cookie(services_of(request), COOKIE, pair.access_token, int(ACCESS_LIFE.total_seconds())))
    return answer


def close_session(request: AnyRequest, answer: Response[Any]) -> Response[Any]:
    """Sign the browser out."""
    answer.set_cookie(_cookie(services_of(request), COOKIE, "", 0))
    return answer
