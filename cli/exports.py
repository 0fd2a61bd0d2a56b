"""`crewkit export`: the organization's analytics rows as a file or a folder, new or brought up to date."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cli._ask import ask, json_option, open_client, organization_option, show_all
from cli._fetch import Pending, fetch
from cli._folder import Folder
from cli.client import Client, RefusedError
from domain.words import counted

FORMATS = ("duckdb", "parquet", "csv")
OUTPUTS = {"duckdb": "crewkit.duckdb", "parquet": "crewkit-parquet", "csv": "crewkit-csv"}
PARTITIONS = {"duckdb": "none", "parquet": "day", "csv": "none"}
LAST = "last"
POLL_S = 0.5
_WISHES = ("format", "partition", "tables", "since")


@click.group("export", invoke_without_command=True)
@click.option("--format", "kind", type=click.Choice(FORMATS), help="[default: duckdb]")
@click.option(
    "--since", help="Rows from this day or quarter of an hour on (2026-11-01, UTC); `last`: the same as --append."
)
@click.option("--tables", help="Names of tables, separated by commas.  [default: all]")
@click.option(
    "--partition",
    type=click.Choice(("day", "month", "none")),
    help="Folders.  [default: day for Parquet, none for CSV]",
)
@click.option("--output", type=click.Path(path_type=Path), help="File (duckdb) or folder (parquet, csv) to write.")
@click.option("--append", is_flag=True, help="Bring the folder of an earlier export up to date.")
@click.option(
    "--wait", "wait_s", default=1800, show_default=True, type=click.IntRange(0), help="Seconds to wait for the service."
)
@organization_option
@click.pass_context
def export(
    context: click.Context,
    kind: str | None,
    since: str | None,
    tables: str | None,
    partition: str | None,
    output: Path | None,
    append: bool,
    wait_s: int,
    organization: str | None,
) -> None:
    """Write the organization's analytics rows to OUTPUT: one DuckDB database, or a folder of Parquet or CSV files.

    Run again after an interruption, it goes on where it was.  Exit codes: 0 ok, 1 refused or not ready in time, 2 wrong
    command line, 3 the service cannot be reached.
    """
    if context.invoked_subcommand is not None:
        return
    append = append or since == LAST
    wishes = {
        "format": kind,
        "partition": partition,
        "tables": sorted(name.strip() for name in tables.split(",")) if tables else None,
        "since": None if since in (None, LAST) else _moment(str(since)),
    }
    given = {name: value for name, value in wishes.items() if value is not None}
    with open_client(organization) as client:
        _Export(client, given, output, append=append, wait_s=wait_s).run()


@export.command("list")
@organization_option
@json_option
def list_command(organization: str | None, as_json: bool) -> None:
    """Exports that the service knows, newest first."""
    with open_client(organization) as client:
        found = ask(client, "GET", client.path("/exports"))["items"]
    names = ("export_id", "status", "format", "requested_at", "rows", "size_bytes", "expires_at")
    show_all(found, names, as_json=as_json, empty="no exports")


@export.command("cancel")
@click.argument("export_id", type=click.UUID)
@organization_option
def cancel_command(export_id: Any, organization: str | None) -> None:
    """Give EXPORT_ID up: stop writing it, or delete its file from the service."""
    with open_client(organization) as client:
        ask(client, "DELETE", client.path(f"/exports/{export_id}"))
    click.echo(f"{export_id}: given up")


def _moment(text: str) -> str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--since: expected a day (2026-11-01), a moment or `{LAST}`, got {text!r}") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


class _Export:
    """One run of the command."""

    def __init__(
        self, client: Client, given: dict[str, Any], output: Path | None, *, append: bool, wait_s: int
    ) -> None:
        self._client = client
        self._append = append
        self._until_s = time.monotonic() + wait_s
        self._shown = ""
        kind = given.get("format")
        self.output = output or Path(OUTPUTS[kind or "duckdb"])
        self._folder = Folder(self.output)
        state = self._folder.state() if append else None
        if append and not self.output.is_dir() and self.output.exists():
            raise click.UsageError(f"--append: {self.output} is a file; a DuckDB database is always written whole")
        if append and kind is None and state is None and not self._folder.is_empty():
            raise click.UsageError(f"--append: {self.output} holds no export; name its --format or another --output")
        self._state = self._known(state, given)
        kind = self._state["format"] if self._state else kind or "duckdb"
        if append and kind == "duckdb":
            raise click.UsageError("--append: a DuckDB database is always written whole; leave --append away")
        whole: dict[str, Any] = {"format": kind, "partition": PARTITIONS[kind], "tables": [], "since": None}
        self.wishes = {name: self._state[name] for name in _WISHES} if self._state else {**whole, **given}

    def _known(self, state: dict[str, Any] | None, given: dict[str, Any]) -> dict[str, Any] | None:
        """The state that is to be brought forward; options that contradict it are refused."""
        if state is None:
            return None
        for name, value in given.items():
            if state[name] != value:
                raise click.UsageError(
                    f"--{name}: {self.output} was exported with {state[name]}; choose another --output"
                )
        return state

    def run(self) -> None:
        """Ask, wait, fetch, put in place, tidy up."""
        database = self.wishes["format"] == "duckdb"
        if not database and not self._append and not self._folder.is_empty():
            raise click.ClickException(f"{self.output} is not empty; --append brings an export in it up to date")
        if database and self.output.is_dir():
            raise click.UsageError(f"--output: {self.output} is a folder, expected a file")
        pending = Pending(self.output)
        view = self._ready(self._asked(pending))
        fetch(self._client, view, pending.part, self._say)
        if database:
            pending.part.replace(self.output)
            spent = view["export_id"]  # nothing is ever added to it
        else:
            told = {name: view[name] for name in ("export_id", "position", "completed_at")}
            self._folder.put(pending.part, {**self.wishes, **told})
            spent = self._state["export_id"] if self._state else None
        pending.forget()
        if spent is not None:
            self._give_up(spent)
        what = counted(view["rows"], "changed row" if view["partial"] else "row")
        click.echo(f"{self.output}: {what}, {counted(view['size_bytes'], 'byte')}, up to position {view['position']}")

    def _asked(self, pending: Pending) -> str:
        """Path of the export: the one on its way, else a new one."""
        found = pending.read()
        base = self._state["export_id"] if self._state and self._folder.is_whole() else None
        place = self._client.path("/exports")
        note = {"place": f"{self._client.connection.url}{place}", "wishes": self.wishes, "base": base}
        if found is not None and {name: found.get(name) for name in note} == note:
            path = str(found["path"])
            answer = self._client.ask("GET", path)
            if (
                answer.status == 200
                and b'"status":"expired"' not in answer.body
                and b'"status":"failed"' not in answer.body
            ):
                return path
        try:
            view = ask(self._client, "POST", place, {**self.wishes, "base": base})
        except RefusedError as error:
            if base is None or error.status != 422:
                raise
            view = ask(self._client, "POST", place, self.wishes)  # the service knows the earlier export no more
        pending.note({**note, "path": view["_links"]["self"]})
        return str(view["_links"]["self"])

    def _ready(self, path: str) -> dict[str, Any]:
        while True:
            view = ask(self._client, "GET", path)
            if view["status"] == "ready":
                return view
            if view["status"] != "requested":
                raise click.ClickException(f"export {view['export_id']} {view['status']}: {view['reason']}")
            if time.monotonic() >= self._until_s:
                raise click.ClickException(f"export {view['export_id']} is not ready; the same command goes on waiting")
            if told := view["progress"]:
                self._say(f"{told['stage']}: {told['done']} of {told['total']} tables, {counted(told['rows'], 'row')}")
            time.sleep(POLL_S)

    def _say(self, text: str) -> None:
        if text != self._shown:
            self._shown = text
            click.echo(text, err=True)

    def _give_up(self, export_id: str) -> None:
        """What is here need not stay with the service.  Failing is fine: it expires by itself."""
        with contextlib.suppress(click.ClickException):
            self._client.ask("DELETE", self._client.path(f"/exports/{export_id}"))
