"""`crewkit mail`: what would have been mailed, where no mail server is set."""

from __future__ import annotations

import re
from datetime import datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from cli.processes.common import data_dir_option, print_json, print_table, read_settings

FOLDER = "mail"
LIMIT_DEFAULT = 20
FILES_MAX = 10_000
_LINK = re.compile(r"^https?://\S+$", re.MULTILINE)


class Kept(msgspec.Struct, frozen=True):
    """A mail in the folder."""

    id: str
    at: datetime
    to: str
    subject: str
    path: str


@click.group()
def mail() -> None:
    """Mails of a local instance: without a mail server (CREWKIT_SMTP_HOST) they land as files in the data folder."""


@mail.command("list")
@click.option("--limit", default=LIMIT_DEFAULT, show_default=True, type=click.IntRange(1), help="At most so many.")
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(limit: int, data_dir: Path | None, as_json: bool) -> None:
    """Show mails, the newest first."""
    found = _kept(data_dir)[:limit]
    if as_json:
        print_json(found)
        return
    rows: list[dict[str, Any]] = [
        {"mail": one.id[:8], "time": f"{one.at.astimezone():%Y-%m-%d %H:%M:%S}", "to": one.to, "subject": one.subject}
        for one in found
    ]
    print_table(rows, empty="no mail")


@mail.command("show")
@click.argument("mail_id", metavar="[MAIL]", required=False)
@click.option("--html", "as_html", is_flag=True, help="The HTML part.")
@click.option("--raw", is_flag=True, help="The whole file.")
@data_dir_option
def show_command(mail_id: str | None, as_html: bool, raw: bool, data_dir: Path | None) -> None:
    """Show one mail by its id (its first characters are enough); the newest where none is named."""
    path = Path(_find(data_dir, mail_id).path)
    if raw:
        click.echo(path.read_text(encoding="utf-8"), nl=False)
        return
    message = _read(path)
    for name in ("From", "To", "Subject", "Date"):
        click.echo(f"{name}: {message[name]}")
    click.echo(f"\n{_part(message, 'html' if as_html else 'plain')}", nl=False)


@mail.command("open-link")
@click.argument("mail_id", metavar="[MAIL]", required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the address instead of opening it.")
@data_dir_option
def open_link_command(mail_id: str | None, only_print: bool, data_dir: Path | None) -> None:
    """Open the link of a mail in the browser; of the newest where none is named."""
    one = _find(data_dir, mail_id)
    found = _LINK.search(_part(_read(Path(one.path)), "plain"))
    if found is None:
        raise click.ClickException(f"mail {one.id[:8]} has no link")
    click.echo(found[0])
    if not only_print and click.launch(found[0]) != 0:
        raise click.ClickException("no browser could be started; open the address above")


def _kept(data_dir: Path | None) -> list[Kept]:
    folder = Path(read_settings(data_dir).data_dir).expanduser() / FOLDER
    files = sorted(folder.glob("*.eml"), key=lambda path: path.stat().st_mtime, reverse=True)[:FILES_MAX]
    found: list[Kept] = []
    for path in files:
        message = _read(path)
        at = parsedate_to_datetime(str(message["Date"]))
        found.append(Kept(path.stem.partition(".")[0], at, str(message["To"]), str(message["Subject"]), str(path)))
    return found


def _find(data_dir: Path | None, mail_id: str | None) -> Kept:
    found = [one for one in _kept(data_dir) if mail_id is None or one.id.startswith(mail_id.lower())]
    if not found:
        raise click.ClickException("there is no such mail; see `crewkit mail list`" if mail_id else "there is no mail")
    if mail_id is not None and len(found) > 1:
        raise click.ClickException(f"{len(found)} mails begin with {mail_id!r}; give more of the id")
    return found[0]


def _read(path: Path) -> EmailMessage:
    with path.open("rb") as file:
        return BytesParser(EmailMessage, policy=policy.default).parse(file)


def _part(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    return str(part.get_content()) if part is not None else ""
