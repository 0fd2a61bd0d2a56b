"""The reactor process: side effects that follow events (a model's words about a session, mail), and what operators can do."""

from __future__ import annotations

from collections.abc import Sequence

from domain.discover import collect
from eventstore.settings import Settings
from workers.blocks import Names
from workers.lifecycle import until_cancelled
from workers.reactor import mailers, reactions
from workers.reactor.base import Reaction
from workers.reactor.control import ReactionStatus, Refused, drop, listed, retry
from workers.reactor.host import Reactor
from workers.reactor.mail.base import Mailer, reaction_of

__all__ = ["ReactionStatus", "Refused", "drop", "found_reactions", "listed", "retry", "run_reactor"]


def found_reactions() -> list[Reaction]:
    """Every reaction of the program.

    Raises:
        ValueError: two share a kind.
    """
    found = [*collect(reactions, Reaction), *map(reaction_of, collect(mailers, Mailer))]
    kinds = [reaction.kind for reaction in found]
    if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise ValueError(f"two reactions share a kind: {', '.join(twice)}")
    return found


async def run_reactor(
    settings: Settings, *, names: Names | None = None, wanted: Sequence[Reaction] | None = None
) -> None:
    """React (by default with every reaction found) until cancelled; then finish what is in hand and leave office."""
    chosen = found_reactions() if wanted is None else wanted
    reactor = Reactor(settings, names or Names(), [reaction for reaction in chosen if reaction.enabled(settings)])
    await until_cancelled(reactor.run)
