"""The reference is complete: a command, setting, event, metric, route or error code that is missing from it fails here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

import api.app
import domain
from api.errors import CODE_OF_STATUS
from api.health import table_metrics
from api.metrics import Metrics
from cli.main import root as cli
from domain.discover import subclasses
from domain.kernel import DomainError, Event, tag_of
from eventstore.settings import Settings
from projections.installation import ProjectionVitals, ReactionVitals, Vitals

DOCS = Path(__file__).resolve().parent.parent / "docs"


def page(name: str) -> str:
    return (DOCS / "reference" / name).read_text(encoding="utf-8")


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield f"{prefix}{name}", command
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_every_command_and_option_is_in_the_reference() -> None:
    text = page("cli.md")
    missing = []
    for name, command in commands(cli):
        if f"`crewkit {name}" not in text:
            missing.append(name)
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden and parameter.name != "help":
                longest = max(parameter.opts, key=len)
                if longest not in text:
                    missing.append(f"{name} {longest}")
    assert missing == []


def test_every_command_in_the_reference_can_be_called() -> None:
    known = {name for name, _ in commands(cli)}
    told = re.findall(r"^## `crewkit ([^`]+)`", page("cli.md"), re.MULTILINE)
    assert len(told) > 20
    words = [[word for word in one.split() if word.islower()] for one in told]
    assert [one for one in words if not any(" ".join(one[:n]) in known for n in range(1, len(one) + 1))] == []


def test_every_setting_is_in_the_reference_with_its_meaning() -> None:
    text = page("settings.md")
    schema = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    missing = [
        field
        for field, described in schema.items()
        if f"`CREWKIT_{field.upper()}`" not in text or described["description"] not in text
    ]
    assert missing == []


def test_every_event_type_is_in_the_reference() -> None:
    text = page("events.md")
    known = {tag_of(kind) for kind in subclasses(domain, Event) if kind.__struct_config__.tag}
    tags = {tag for tag in known if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+\.v\d+", tag)}
    assert tags
    assert [tag for tag in sorted(tags) if f"`{tag}`" not in text] == []


def test_every_metric_is_in_the_reference() -> None:
    text = page("metrics.md")
    one = ProjectionVitals(**dict.fromkeys(ProjectionVitals.__struct_fields__, 0))
    effect = ReactionVitals(kind="k", state="dead", count=1, oldest_s=1.0)
    everything = Vitals(head=0, relay_position=0, relay_lag=0, projections=[one], reactions=[effect])
    registries = (Metrics().registry, table_metrics(everything))
    ours = {metric.name for registry in registries for metric in registry.collect()}
    assert len(ours) > 10
    assert [name for name in sorted(ours) if f"`{name}`" not in text and f"`{name}_total`" not in text] == []


def test_every_route_is_in_the_reference() -> None:
    text = page("api.md")
    app = api.app.create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
    ours = {route.path for route in app.routes if not route.path.startswith(("/docs", "/schema"))}
    documented = re.sub(r":[a-z]+\}", "}", text)
    assert [path for path in sorted(ours) if f"`{re.sub(r':[a-z]+}', '}', path)}`" not in documented] == []


def test_every_error_code_is_in_the_reference() -> None:
    text = page("api.md")
    told = {error.code for error in subclasses(domain, DomainError)} | set(CODE_OF_STATUS.values())
    told.discard("payment_required")  # there are no plans to pay for yet
    assert [code for code in sorted(told) if f"`{code}`" not in text] == []


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []
