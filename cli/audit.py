"""`crewkit audit`: take the history out as a file that proves itself, and check such files without the service."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import click
import msgspec

from cli._ask import open_client
from domain.words import counted


@click.group()
def audit() -> None:
    """The auditor's tools: export the organization's history, prove offline that nothing was changed or left out."""


@audit.command("export")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write; - for standard output.")
@click.option("--after", type=click.IntRange(1), help="Only what came after this checkpoint.")
@click.option("--until", type=click.IntRange(1), help="Up to this checkpoint (default: the newest).")
@click.option("--include", type=click.IntRange(1), multiple=True, help="A checkpoint to meet on the way.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An older export: meet its last checkpoint, so that both can be compared whole.",
)
def export_command(
    out: Path | None, after: int | None, until: int | None, include: tuple[int, ...], against: Path | None
) -> None:
    """Write the organization's events as stored, with the hashes and signatures that prove them complete and unchanged.

    Sealed values stay closed.  A name that ends in .gz is compressed.  Exit codes: 0 ok, 1 refused, 2 wrong command line,
    3 the service cannot be reached.
    """
    wanted = list(include)
    if against is not None:
        wanted.append(_last_number(against))
    with open_client() as client:
        path = client.path("/audit/export", {"after": after, "until": until, "include": wanted or None})
        headers, body = client.stream(path)
        named = headers.get("content-disposition", "").partition('filename="')[2].rstrip('"')
        target = out or Path(named or "audit.jsonl")
        if str(target) == "-":
            for block in body:
                sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
            return
        partial = target.with_name(f".{target.name}.part")
        size = 0
        try:
            with _writer(partial, target) as file:
                for block in body:
                    size += len(block)
                    file.write(block)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    click.echo(f"{target}: {counted(size, 'byte')}; check it with `crewkit audit verify {target}`", err=True)


@audit.command("verify")
@click.argument(
    "named", nargs=-1, required=True, metavar="FILE [NEWER]", type=click.Path(dir_okay=False, path_type=Path)
)
@click.option("--key", "keys", multiple=True, help="The public key to trust: its line, or a file that holds it.")
@click.option("--pin", "pins", multiple=True, metavar="FINGERPRINT", help="The same by fingerprint, sha256:….")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def verify_command(named: tuple[Path, ...], keys: tuple[str, ...], pins: tuple[str, ...], as_json: bool) -> None:
    """Prove, without the service, that an export holds exactly the organization's events, unchanged and in order.

    With two files, also that the newer one continues the older.  Without --key or --pin the file is checked against the key
    it brings along: compare the fingerprint shown with one you got another way.  Erased text does not matter: what is proven
    is ciphertext.  Exit codes: 0 everything holds, 1 something was tampered with, 2 wrong usage (also: a file that cannot be
    read, or two that cannot be compared).
    """
    files = list(named)
    if len(files) > 2:
        raise click.UsageError("expected one export, or an older and a newer one")
    trusted = _trusted(keys, pins)
    from domain.proof.verify import compare  # noqa: PLC0415

    older = _verify(files[0], trusted, set())
    reports = [older]
    comparison = None
    if len(files) == 2:
        reports.append(_verify(files[1], trusted, {older.events_before + older.events}))
        if all(one.ok for one in reports):
            comparison = compare(*reports)
            if not comparison.comparable:
                raise click.UsageError("; ".join(one.message for one in comparison.problems))
    problems = [one for report in reports for one in report.problems]
    problems += comparison.problems if comparison else []
    if as_json:
        told: dict[str, Any] = {
            "ok": not problems,
            "files": [{"file": str(file), **_plain(one)} for file, one in zip(files, reports, strict=True)],
        }
        if comparison is not None:
            told["continues"] = {"ok": not comparison.problems, **msgspec.to_builtins(comparison)}
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))
    else:
        for file, report in zip(files, reports, strict=True):
            _tell(file, report)
        if comparison is not None:
            _tell_comparison(comparison)
    if problems:
        raise SystemExit(1)


@audit.command("certificate")
@click.argument("erasure_id", type=click.UUID)
@click.option("--pin", "pins", multiple=True, metavar="FINGERPRINT", help="The key that must have signed it, sha256:….")
@click.option("--json", "as_json", is_flag=True, help="Print the service's object.")
def certificate_command(erasure_id: Any, pins: tuple[str, ...], as_json: bool) -> None:
    """Show the certificate of an erasure, after checking its signature.

    Exit codes: 0 ok, 1 refused, not certified yet, or not signed by the key, 2 wrong command line, 3 the service cannot be
    reached.
    """
    from domain.proof.merkle import ProofError  # noqa: PLC0415
    from domain.proof.note import parse_key, parse_signed  # noqa: PLC0415
    from eventstore.proof import is_signed_by  # noqa: PLC0415

    trusted = _trusted((), pins)
    with open_client() as client:
        raw = client.get(f"/audit/certificates/{erasure_id}")
    found = msgspec.json.decode(raw)
    if found["note"] is None:
        raise click.ClickException("the erasure is not finished yet; try again in some seconds")
    try:
        text, signatures = parse_signed(found["note"])
        key = parse_key(found["public_key"])
    except ProofError as error:
        raise click.ClickException(f"the certificate cannot be read: {error}") from error
    if not is_signed_by(key, text, signatures):
        raise click.ClickException("the signature does not fit the certificate")
    if trusted and key.fingerprint not in trusted:
        raise click.ClickException(f"it is signed by {key.fingerprint}, not by the given key")
    if as_json:
        click.echo(msgspec.json.format(raw, indent=2))
        return
    click.echo(text)
    trust = "the key you named" if trusted else "NOT compared with a key you named (--pin)"
    click.echo(f"signed by {key.fingerprint}\n          {trust}")


def _trusted(keys: tuple[str, ...], pins: tuple[str, ...]) -> set[str]:
    from domain.proof.merkle import ProofError  # noqa: PLC0415
    from domain.proof.note import parse_key  # noqa: PLC0415

    found = set[str]()
    for key in keys:
        try:
            text = key if "+" in key else Path(key).read_text(encoding="utf-8")
            found.add(parse_key(text).fingerprint)
        except (ProofError, OSError, ValueError) as error:
            raise click.UsageError(f"--key: {error}") from error
    for pin in pins:
        digits = pin.removeprefix("sha256:").lower()
        if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
            raise click.UsageError("--pin: expected sha256: and 64 hexadecimal digits")
        found.add(f"sha256:{digits}")
    return found


def _verify(file: Path, trusted: set[str], watch: set[int]) -> Any:
    from domain.proof.verify import verify  # noqa: PLC0415
    from eventstore.proof import is_signed_by  # noqa: PLC0415

    try:
        with _reader(file) as lines:
            return verify(_lines(lines), is_signed_by, trusted=trusted, watch=watch)
    except (OSError, EOFError, zlib.error) as error:
        raise click.UsageError(f"{file} cannot be read: {error}") from error


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    from domain.proof.lines import LINE_BYTES_MAX  # noqa: PLC0415

    while line := file.readline(LINE_BYTES_MAX):
        yield line


def _reader(file: Path) -> IO[bytes]:
    with file.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(file, "rb")) if packed else file.open("rb")


def _writer(file: Path, target: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(file, "wb")) if target.suffix == ".gz" else file.open("wb")


def _last_number(file: Path) -> int:
    from domain.proof.lines import Head, read_line  # noqa: PLC0415
    from domain.proof.merkle import ProofError  # noqa: PLC0415
    from domain.proof.note import parse_note  # noqa: PLC0415

    try:
        with _reader(file) as lines:
            head = read_line(next(_lines(lines), b""))
            if isinstance(head, Head):
                return parse_note(head.checkpoints[-1])[0].number
    except (OSError, EOFError, zlib.error, ProofError, IndexError) as error:
        raise click.UsageError(f"--against: {file} is no export: {error}") from error
    raise click.UsageError(f"--against: {file} is no export")


def _plain(report: Any) -> dict[str, Any]:
    """A report for machines: checkpoints with hex roots."""
    last = report.checkpoints[-1] if report.checkpoints else None
    return {
        "ok": report.ok,
        "organization_id": report.organization_id,
        "log": report.log,
        "events": report.events,
        "events_before": report.events_before,
        "first_position": report.first_position,
        "last_position": report.last_position,
        "checkpoints": len(report.checkpoints),
        "last_checkpoint": None
        if last is None
        else {"number": last.number, "size": last.size, "root": last.root.hex(), "at": last.at},
        "fingerprints": report.fingerprints,
        "pinned": report.pinned,
        "problems": report.problems,
    }


def _tell(file: Path, report: Any) -> None:
    mark = click.style("proven", fg="green") if report.ok else click.style("TAMPERED", fg="red")
    click.echo(f"{file}: {mark}")
    for problem in report.problems:
        where = "".join(
            f"{name} {value}: " for name, value in (("line", problem.line), ("position", problem.position)) if value
        )
        click.echo(f"  {where}{problem.message}")
    if not report.ok:
        return
    last = report.checkpoints[-1]
    begin = f", after the {report.events_before} before them" if report.events_before else ""
    click.echo(f"  organization  {report.organization_id}")
    click.echo(f"  events        {report.events}{begin}: all of them, unchanged and in order")
    click.echo(f"  up to         checkpoint {last.number} of {last.at:%Y-%m-%d %H:%M:%S} UTC, position {last.size}")
    trust = "the key you named" if report.pinned else "NOT compared with a key you named (--pin)"
    click.echo(f"  signed by     {', '.join(report.fingerprints)}\n                {trust}")


def _tell_comparison(comparison: Any) -> None:
    if comparison.problems:
        click.echo(click.style("the newer export does not continue the older one", fg="red"))
        for problem in comparison.problems:
            click.echo(f"  {problem.message}")
        return
    click.echo(click.style("the newer export continues the older one", fg="green"))
    if not comparison.log_shown:
        click.echo(
            "  for this organization; that the whole log does too is shown by an export made with --against the older file"
        )
