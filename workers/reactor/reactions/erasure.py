"""What lies outside the log about a person goes when their key is destroyed: mails that were kept as files."""

from __future__ import annotations

import asyncio

from domain.organizations.events import SubjectShredded
from eventstore.port import Recorded
from workers.reactor.base import DAY_S, Done, On, Reaction, Result, Tools
from workers.reactor.mail.leave import forget

YEARS_S = 3650 * DAY_S  # late is better than never


async def remove_files(tools: Tools, recorded: Recorded) -> Result:
    """React to an erasure.  Doing it twice changes nothing."""
    event = recorded.event
    if isinstance(event, SubjectShredded):
        await asyncio.to_thread(forget, tools.settings, event.person_id)
    return Done()


REACTION = Reaction(
    kind="mail.forget", lane="erasure", lane_max=1, on=(On(SubjectShredded),), run=remove_files, valid_s=YEARS_S
)
