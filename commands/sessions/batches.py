"""`batch_id`: a client's name for what it sends.  The same batch again is taken as such; its name for other facts is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from commands.bus import Principal
from commands.sessions.facts import usable_id
from domain.kernel import DomainError
from eventstore.batches import Batches
from schemas.ingest import EventResult

DIGEST_BYTES = 16
Named = tuple[str | None, Sequence[EventResult]]


class BatchReusedError(DomainError):
    """The batch id stands for other facts."""

    code = "conflict"


class BatchIdError(DomainError):
    """The batch id cannot be one."""

    code = "validation_failed"


class BatchNames:
    """The names of one request's batches: `check` before its facts are appended, `note` afterwards.

    Only what was stored is noted: a batch that failed half-way may be sent again, whatever became of its facts' ids since.
    """

    def __init__(self, batches: Batches | None, principal: Principal) -> None:
        self._batches = batches
        self._org_id = principal.org_id
        self._named: dict[str, bytes] = {}

    async def check(self, named: Iterable[Named]) -> None:
        """Refuse names that stand for other facts; batches without a name are never refused.

        Raises:
            BatchIdError: a name is empty, too long or not printable.
            BatchReusedError: a name stands for other facts; nothing of the request is stored.
            StoreUnavailableError: it cannot be known now.
        """
        for batch_id, results in named:
            if batch_id is None:
                continue
            if not usable_id(batch_id):
                raise BatchIdError("batch_id: expected 1 to 200 printable characters", field="batch_id")
            digest = digest_of(results)
            if self._named.setdefault(batch_id, digest) != digest:
                raise _reused({batch_id})
        if (
            self._named
            and self._batches is not None
            and (known := await self._batches.reused(self._org_id, self._named))
        ):
            raise _reused(known)

    async def note(self) -> None:
        """Remember the names.

        Raises:
            BatchReusedError: another request used one of them for other facts at the same time.
            StoreUnavailableError: they cannot be noted now; sending the request again is safe.
        """
        if self._named and self._batches is not None and (known := await self._batches.note(self._org_id, self._named)):
            raise _reused(known)


def digest_of(results: Iterable[EventResult]) -> bytes:
    """Names the facts of a batch, in their order, by their ids; a fact's id is made of its session and natural key."""
    ids = "|".join(result.id or "" for result in results)
    return hashlib.blake2b(ids.encode(), digest_size=DIGEST_BYTES).digest()


def _reused(ids: set[str]) -> BatchReusedError:
    shown = min(ids)
    message = f"batch_id {shown} was used for other content before; send this content under a batch_id of its own"
    return BatchReusedError(message, field="batch_id", batch_id=shown)
