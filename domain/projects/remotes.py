"""One spelling for the many addresses of one git repository."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from domain.organizations.state import InvalidFieldError

REMOTE_CHARS_MAX = 500

_SCHEMES = frozenset({"ssh", "git", "https", "http", "git+ssh", "git+https", "git+http", "ssh+git", "ftp", "ftps"})
_SCP = re.compile(r"(?:[^@/:\s]+@)?(?P<host>\[[0-9a-fA-F:.]+\]|[^@/:\s\[\]]+):(?P<path>[^\s].*)")
_SHORT = re.compile(r"[\w.-]+(?:/[\w.-]+)+")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|[0-9a-f:.]+")
# The same servers under a second name, for networks that let only port 443 out.
_SAME_HOST = {
    "ssh.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
    "ssh.dev.azure.com": "dev.azure.com",
}


def normalized(remote: str) -> str:
    """`host/path` in lower case, without user, password, port and `.git`; `owner/name` where no host is named.

    Raises:
        InvalidFieldError: it is no address of a repository that others could reach.
    """
    text = remote.strip()
    if not text or len(text) > REMOTE_CHARS_MAX or not text.isprintable():
        raise _refused(remote)
    scheme, separator, _ = text.partition("://")
    if separator:
        host, path = _of_url(text, scheme.lower(), remote)
    elif (found := _SCP.fullmatch(text)) is not None and len(found["host"]) > 1:  # one letter is a drive
        host, path = found["host"].strip("[]"), found["path"]
    elif _SHORT.fullmatch(text) and not text.startswith("."):
        first, _, rest = text.partition("/")
        host, path = (first, rest) if "." in first and "/" in rest else ("", text)
    else:
        raise _refused(remote)
    host = host.lower().removeprefix("www.").rstrip(".")
    host = _SAME_HOST.get(host, host)
    parts = [part for part in unquote(path).lower().split("/") if part not in {"", "~"}]
    if host == "dev.azure.com":  # the same repository is …/v3/org/project/name and …/org/project/_git/name
        parts = [part for n, part in enumerate(parts) if not (part == "_git" or (n == 0 and part == "v3"))]
    if parts:
        parts[-1] = parts[-1].removesuffix(".git")
    odd = any(part in {"", ".", ".."} or not part.isprintable() or part != part.strip() for part in parts)
    if not parts or odd or (host and not _HOST.fullmatch(host)) or (not host and len(parts) < 2):
        raise _refused(remote)
    return "/".join([host, *parts] if host else parts)


def names_host(known: str) -> bool:
    """Whether a normalized remote begins with a host rather than an owner."""
    first, _, rest = known.partition("/")
    return "/" in rest and ("." in first or ":" in first or first == "localhost")


def _of_url(text: str, scheme: str, remote: str) -> tuple[str, str]:
    if scheme not in _SCHEMES:
        raise _refused(remote)
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError as error:
        raise _refused(remote) from error
    if not host:
        raise _refused(remote)
    return host, parts.path


def _refused(remote: str) -> InvalidFieldError:
    shown = remote[:100]
    if "@" in shown:  # a password may stand there
        shown = "…" + shown.rpartition("@")[2]
    return InvalidFieldError(f"expected the address of a git repository, got {shown!r}", field="git_remote")
