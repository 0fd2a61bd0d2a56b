"""The developer's choices: how much content leaves, per project, and a few switches.  Kept in `<client dir>/config.json`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from cli.capture.paths import ClientDir, write_atomically
from domain.sessions.split import LEVELS

DEFAULT_LEVEL = "structure"
SWEEPS = ("end", "off")


class Content(msgspec.Struct, omit_defaults=True):
    """`projects` maps a folder to its level; the nearest folder above a session's directory decides."""

    default: str = DEFAULT_LEVEL
    projects: dict[str, str] = msgspec.field(default_factory=dict)


class Config(msgspec.Struct, omit_defaults=True):
    """`identity`: send the e-mail address and name of git's configuration (never at level `counts`).

    `sweep`: `end` reads a session's transcript when it ends or is found unfinished later; `off` never.  `data_dir` is where
    `crewkit up` keeps crewkit.json.
    """

    content: Content = msgspec.field(default_factory=Content)
    identity: bool = True
    sweep: str = "end"
    data_dir: str | None = None

    def level(self, cwd: str | None) -> str:
        """The content level for work in `cwd`."""
        best, level = -1, self.content.default
        for folder, chosen in self.content.projects.items():
            inside = cwd is not None and (cwd == folder or cwd.startswith(folder.rstrip("/") + "/"))
            if inside and len(folder) > best:
                best, level = len(folder), chosen
        return level


class ConfigError(ValueError):
    """config.json says something we cannot follow.  Nothing is sent then: guessing could send too much."""


def load(paths: ClientDir) -> Config:
    """Read the configuration; without a file, the defaults.

    Raises:
        ConfigError: the file is no JSON, or names a level or switch that does not exist.
    """
    try:
        data = paths.config.read_bytes()
    except FileNotFoundError:
        return Config()
    try:
        config = msgspec.json.decode(data, type=Config)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{paths.config}: {error}") from error
    for where, level in (("default", config.content.default), *config.content.projects.items()):
        if level not in LEVELS:
            raise ConfigError(
                f"{paths.config}: content level of {where}: expected one of {', '.join(LEVELS)}, got {level!r}"
            )
    if config.sweep not in SWEEPS:
        raise ConfigError(f"{paths.config}: sweep: expected one of {', '.join(SWEEPS)}, got {config.sweep!r}")
    return config


def save(paths: ClientDir, config: Config) -> None:
    """Write the configuration."""
    write_atomically(paths.config, msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")


def set_level(config: Config, level: str, project: Path | None) -> None:
    """Choose a level for everything, or for one project folder."""
    if project is None:
        config.content.default = level
    else:
        config.content.projects[str(project)] = level
