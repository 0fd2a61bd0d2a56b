"""`crewkit flush`: send what waits in the local spool."""

from __future__ import annotations

import time

import click

from cli.capture import spool
from cli.capture.config import ConfigError
from cli.capture.flusher import BusyError, Flusher, only_one, unread
from cli.capture.paths import ClientDir, here
from cli.capture.sweep import Sweeps
from cli.client import UnreachableError, resolve
from domain.words import counted
from eventstore import settings

WAIT_S = 30.0
OTHER_WAIT_S = 30.0
OTHER_POLL_S = 0.1


@click.command()
@click.option("--once", is_flag=True, help="Try once; do not wait for a service that cannot be reached.")
@click.option("--background", is_flag=True, help="Stay until nothing has happened for a minute (hooks start this).")
@click.pass_context
def flush(ctx: click.Context, once: bool, background: bool) -> None:
    """Send captured events that wait in the local spool.

    Without options: everything that is there now, trying again for half a minute while the service is away.  The transcript
    of a session that has ended is a part of it: that is read once the agent has written its last line.  Events that the
    service refuses are kept in spool/rejected/ and reported.  Exit codes: 0 all sent, 1 refused (also: some events were
    refused, or no configuration can be read), 3 the service cannot be reached; unsent events stay in the spool.
    """
    paths = here().make()
    end = time.monotonic() + OTHER_WAIT_S
    while True:
        try:
            with only_one(paths):
                _work(ctx, paths, once=once, background=background)
                return
        except BusyError:
            if background:
                paths.starting.unlink(missing_ok=True)
                return
            if _other_is_done(paths, end):
                return
        except (ConfigError, OSError) as error:
            raise click.ClickException(str(error)) from error


def _work(ctx: click.Context, paths: ClientDir, *, once: bool, background: bool) -> None:
    limit = settings.load().spool_bytes_max
    flusher = Flusher(paths, resolve, spool_bytes_max=limit, background=background)
    try:
        if background:
            ctx.exit(flusher.stay())
        flusher.drain(0 if once else WAIT_S)
    finally:
        flusher.close()
        if not background:
            _say(flusher, paths)
    if flusher.total.rejected:
        ctx.exit(1)


def _say(flusher: Flusher, paths: ClientDir) -> None:
    total = flusher.total
    click.echo(f"{total.accepted} sent, {total.duplicate} known already, {total.rejected} refused")
    for note in flusher.notes:
        click.echo(f"  refused: {note}", err=True)
    if total.rejected:
        click.echo(f"  refused events are kept in {paths.rejected}", err=True)
    for lost in flusher.lost:
        click.echo(f"given up: {counted(lost.events, 'event')} of {lost.name}: {lost.why}", err=True)
    waiting = len(spool.scan(paths))
    if waiting:
        click.echo(f"{counted(waiting, 'capture')} still in {paths.incoming}", err=True)


def _other_is_done(paths: ClientDir, end: float) -> bool:
    """Whether the flusher that runs has sent everything; asks it to hurry, and waits a moment if not.

    Looked at in the order in which events travel, so that none can slip by: captures, segments, transcripts to be read.

    Raises:
        UnreachableError: it did not manage until `end` (monotonic seconds).
        ConfigError: the configuration does not say whether transcripts are read.
    """
    if not spool.scan(paths) and not spool.segments(paths) and not unread(paths, Sweeps(paths)):
        click.echo("sent by the flusher in the background")
        return True
    if time.monotonic() > end:
        left = len(spool.segments(paths))
        raise UnreachableError(
            f"The flusher in the background has not finished; still waiting: {counted(left, 'batch', 'batches')}.  See {paths.state}."
        )
    paths.wake.touch()
    time.sleep(OTHER_POLL_S)
    return False
