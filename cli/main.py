"""The `crewkit` program: finds its commands in the slices of this package.

Exit codes, the same for every command: 0 it worked, 1 it was refused or failed, 2 the command line is wrong, 3 the service
(or the database) cannot be reached.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterator

import click

import cli
from domain.discover import collect

OK, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3

_OWN = "main"
_LONG_RUNNING = "processes"  # the slice of servers and workers, which stay small when nothing else is loaded


class Root(click.Group):
    """Loads a slice only when one of its commands is needed, or all of them are to be listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, by name."""
        del ctx
        return sorted(name for name, command in self._all().items() if not command.hidden)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, looked for in one slice after the other, the likely ones first; the rest is never loaded."""
        del ctx
        names = _slice_names()
        likely = [name for name in (cmd_name, _LONG_RUNNING) if name in names]
        for name in dict.fromkeys([*likely, *names]):
            for command in _top_level(importlib.import_module(f"{cli.__name__}.{name}")):
                if command.name == cmd_name:
                    return command
        return None

    def _all(self) -> dict[str, click.Command]:
        named: dict[str, click.Command] = {}
        for command in _without_inner(collect(cli, click.Command)):
            name = command.name or ""
            if name in named:
                raise RuntimeError(f"two slices offer a command {name!r}")
            named[name] = command
        return named


def _slice_names() -> list[str]:
    found = (info.name for info in pkgutil.iter_modules(cli.__path__))
    return sorted(name for name in found if name != _OWN and not name.startswith("_"))


def _top_level(module: object) -> list[click.Command]:
    return _without_inner([value for value in vars(module).values() if isinstance(value, click.Command)])


def _without_inner(commands: list[click.Command]) -> list[click.Command]:
    """Without commands that belong to a group, which a module may hold by name too, and without the root."""
    inner = {id(command) for group in commands if isinstance(group, click.Group) for command in _below(group)}
    return [command for command in commands if id(command) not in inner and not isinstance(command, Root)]


def _below(group: click.Group) -> Iterator[click.Command]:
    """Commands of a group, which a module may hold by name too."""
    if isinstance(group, Root):
        return
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from _below(command)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        try:
            found = importlib.metadata.version("crewkit")
        except importlib.metadata.PackageNotFoundError:
            found = "0+checkout"
        click.echo(f"crewkit {found}")
        ctx.exit()


@click.command(
    cls=Root,
    name="crewkit",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 it worked, 1 refused or failed, 2 wrong command line, 3 the service cannot be reached.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def root() -> None:
    """Record what AI coding agents do in a team, decide how they are configured, and prove both."""


def main() -> int:
    """Run the program; click ends the process with the exit code of the command."""
    root.main(prog_name="crewkit")
    return OK
