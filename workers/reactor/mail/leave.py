"""How a message leaves: to an SMTP server, or, where none is set, into a folder of the data directory."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Literal
from uuid import UUID

import aiosmtplib
from aiosmtplib.errors import (
    SMTPAuthenticationError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
)

from eventstore.settings import Settings
from workers.local.files import write_private
from workers.reactor.base import GiveUpError, RetryError

SMTP_S = 30.0
FOLDER = "mail"
FILES_MAX = 10_000  # in the folder; the oldest go first
LACKING = "the mail server does not offer what CREWKIT_SMTP_SECURITY or the login asks for"
_DETAIL = re.compile(r"\b[245]\.\d{1,3}\.\d{1,3}\b")

Via = Literal["smtp", "file"]


async def deliver(settings: Settings, message: EmailMessage, people: Sequence[UUID]) -> Via:
    """Hand a message over, to the first of `people`, telling of the others, and be sure of it: an answer of the server, or a file on disk.

    Raises:
        RetryError: the server is away, busy or says so for now.
        GiveUpError: it refuses this mail for good.
    """
    if not settings.smtp_host:
        _keep(_folder(settings), message, people)
        return "file"
    try:
        await aiosmtplib.send(
            message,
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_user,
            password=settings.smtp_password,
            use_tls=settings.smtp_security == "tls",
            start_tls=settings.smtp_security == "starttls",
            tls_context=_tls(settings),
            timeout=SMTP_S,
        )
    except SMTPRecipientsRefused as error:
        codes = [one.code for one in error.recipients]
        raise _failure("refused the recipient", min(codes, default=550), str(error.recipients[0].message)) from error
    except SMTPAuthenticationError as error:  # ours to mend, and the mail is as good as before
        raise RetryError(f"the mail server refused our login ({error.code})") from error
    except SMTPResponseException as error:
        raise _failure("answered", error.code, error.message) from error
    except (SMTPException, OSError, EOFError) as error:
        if "not supported" in str(error):  # the client has no class of its own for a missing STARTTLS or AUTH
            raise RetryError(LACKING) from error
        raise RetryError(f"the mail server cannot be reached or went away ({type(error).__name__})") from error
    return "smtp"


def _failure(what: str, code: int, words: str) -> RetryError | GiveUpError:
    """The server's words may hold the address: only its numbers are kept."""
    detail = _DETAIL.search(words)
    text = f"the mail server {what} {code}{f' ({detail[0]})' if detail else ''}"
    return GiveUpError(text) if code >= 500 else RetryError(text)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.smtp_security == "none":
        return None
    return ssl.create_default_context(cafile=settings.smtp_ca_file)


def forget(settings: Settings, person: UUID) -> int:
    """Remove the files of mails to an erased person, and of those that tell others of them; how many."""
    files = list(_folder(settings).glob(f"*.{person.hex}.*eml"))
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


def _folder(settings: Settings) -> Path:
    return Path(settings.data_dir) / FOLDER


def _keep(folder: Path, message: EmailMessage, people: Sequence[UUID]) -> None:
    """One file per mail, named by its id, whose it is and who else is told of: a repeat replaces itself, and an erasure finds it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ident = str(message["Message-ID"]).strip("<>").partition("@")[0]
    concerned = ".".join(person.hex for person in people)
    write_private(folder / f"{ident}.{concerned}.eml", message.as_bytes().decode("utf-8", "surrogateescape"))
    files = sorted(folder.glob("*.eml"), key=lambda file: file.stat().st_mtime)
    for file in files[: max(0, len(files) - FILES_MAX)]:
        file.unlink(missing_ok=True)
