"""What the process commands share: options, settings, and errors as people read them."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from eventstore.settings import Settings, load

PLAIN_WIDTH = 200  # columns of tables that go to a file or a pipe

T = TypeVar("T")

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where databases, logs, keys and crewkit.json lie.  [env: CREWKIT_DATA_DIR]",
)


class UnreachableError(click.ClickException):
    """A service or database did not answer."""

    exit_code = 3


def read_settings(data_dir: Path | None = None) -> Settings:
    """Settings from the environment, with `data_dir` from the command line.

    Raises:
        ClickException: a variable has a value of the wrong type.
    """
    try:
        settings = load()
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    return settings if data_dir is None else msgspec.structs.replace(settings, data_dir=str(data_dir))


def plain_logs() -> None:
    """Import structlog without rich, which it takes for tracebacks wherever it finds it: 5 MB and 50 ms per process, for nothing
    (ours are plain).  Of no effect once either is imported.
    """
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # how Python is told that a module cannot be imported
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]


def instance_settings(data_dir: Path | None = None) -> Settings:
    """Settings that name a database: from the environment, else of the instance on the data directory.

    Raises:
        UnreachableError: neither names one.
    """
    from workers.local.places import NotConfiguredError, complete  # noqa: PLC0415

    try:
        return complete(read_settings(data_dir))
    except NotConfiguredError as error:
        raise UnreachableError(str(error)) from error


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; a database that cannot be reached or refuses us becomes a readable error.

    Raises:
        UnreachableError: the database does not answer (exit code 3).
        ClickException: it answered with a refusal (exit code 1).
    """
    import asyncpg  # noqa: PLC0415

    from eventstore.kms.aws import KmsError  # noqa: PLC0415
    from eventstore.observe import configure  # noqa: PLC0415

    configure(log_level="error", process="cli")  # the command itself says what happened
    try:
        return asyncio.run(work)
    except KmsError as error:
        raise click.ClickException(str(error)) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        hint = ""
        if isinstance(error, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError):
            hint = "; set CREWKIT_DATABASE_URL as it was set for `crewkit up`"
        raise click.ClickException(f"the database refused: {error}{hint}") from error
    except (OSError, TimeoutError) as error:
        raise UnreachableError(f"the database cannot be reached: {error or type(error).__name__}") from error


def print_json(value: Any) -> None:
    """Indented JSON on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_table(rows: Sequence[dict[str, Any]], *, empty: str = "nothing to show") -> None:
    """Rows of equal shape as columns, titles from their keys."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    if not rows:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in rows[0]:
        table.add_column(title.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    (Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)).print(table)
