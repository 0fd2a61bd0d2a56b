"""People of an organization, erasing one, and the certificates of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.params import FromPath, QueryParameter

from api.answers import body_of, json_answer
from api.auth import base_path, principal_of
from api.bodies import read_json
from api.errors import not_found
from api.fresh import wait_until_fresh
from api.paging import cursor_links
from api.services import services_of
from commands import erasure as commands
from commands.bus import load
from commands.erasure import Eraser
from domain.erasure import decide
from domain.erasure.decide import Done, Wanted, erasure_stream
from domain.erasure.events import ErasureCertified
from domain.kernel import Sealed, tag_of
from domain.organizations.events import PersonObserved
from eventstore.sealing import unboxed
from projections import directory, erasure
from schemas.erasure import (
    CertificateView,
    ErasedSubjectView,
    EraseWish,
    ErasurePage,
    ErasureView,
    PeoplePage,
    PersonView,
)

PEOPLE_MAX = 200
_wish = msgspec.json.Decoder(EraseWish)
_OBSERVED = tag_of(PersonObserved)


def eraser_of(request: Request[Any, Any, Any]) -> Eraser:
    """What erasing works with in this process."""
    services = services_of(request)
    return Eraser(services.store, services.pool, services.keyring, services.signer, services.bus.shredded)


def certificate_view(found: ErasureCertified, links: dict[str, str]) -> CertificateView:
    """A certificate as it is shown."""
    return CertificateView(
        erasure_id=found.erasure_id,
        status="certified",
        reason=found.reason,
        requested_by=found.requested_by,
        requested_at=found.requested_at,
        certified_at=found.certified_at,
        subjects=[
            ErasedSubjectView(
                organization_id=one.org_id,
                subject=one.subject,
                key_sha256=one.key_sha256,
                key_destroyed_at=one.key_destroyed_at,
                position=one.position,
            )
            for one in found.subjects
        ],
        note=found.note,
        public_key=found.public_key,
        links=links,
    )


async def certificate_views(
    request: Request[Any, Any, Any], org_id: UUID, links: Callable[[UUID], dict[str, str]]
) -> list[ErasureView]:
    """The organization's erasures, newest first."""
    await wait_until_fresh(request, erasure.PROJECTION.name)
    return [
        ErasureView(
            erasure_id=row.erasure_id,
            status="requested" if row.certified_at is None else "certified",
            subjects=row.subjects,
            reason=row.reason,
            requested_by=row.requested_by,
            requested_at=row.requested_at,
            certified_at=row.certified_at,
            links=links(row.erasure_id),
        )
        for row in await erasure.erasures(services_of(request).pool, org_id)
    ]


async def certificate_of(
    request: Request[Any, Any, Any], org_id: UUID, erasure_id: UUID, links: dict[str, str]
) -> CertificateView:
    """One erasure of the organization, straight from the event store.

    Raises:
        ApiError: 404.
    """
    store = services_of(request).store
    state, _, _ = await load(store, org_id, erasure_stream(erasure_id), decide.evolve, decide.UNASKED)
    match state:
        case Done(certificate=found):
            return certificate_view(found, links)
        case Wanted(request=asked):
            return CertificateView(
                erasure_id=erasure_id,
                status="requested",
                reason=asked.reason,
                requested_by=asked.requested_by,
                requested_at=asked.requested_at,
                certified_at=None,
                subjects=[],
                note=None,
                public_key=None,
                links=links,
            )
        case _:
            raise not_found("certificate")


def _links(erasure_id: UUID, base: str) -> dict[str, str]:
    return {
        "self": f"{base}/audit/certificates/{erasure_id}",
        "history": f"{base}/events?stream={erasure_stream(erasure_id)}",
    }


@get("/api/v1/{organization_id:str}/people", summary="People the organization has met")
async def people(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    after: Annotated[UUID | None, QueryParameter(description="`next_after` of the page before")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=PEOPLE_MAX)] = 50,
) -> Response[PeoplePage]:
    """By id, with e-mail and name as far as they were told and are not erased."""
    services, base, org_id = services_of(request), base_path(request), principal_of(request).org_id
    await wait_until_fresh(request, directory.PROJECTION.name)
    rows = await directory.list_people(services.pool, org_id, after=after, limit=limit + 1)
    more, rows = len(rows) > limit, rows[:limit]
    boxes = [box for row in rows for box in (row.email_box, row.name_box)]
    texts = iter(
        await services.keyring.open_many(org_id, [(_OBSERVED, unboxed(box) if box else _NOTHING) for box in boxes])
    )
    items = [
        PersonView(
            person_id=row.person_id,
            email=next(texts),
            name=next(texts),
            observed_at=row.observed_at,
            erased_at=row.shredded_at,
            links={"erase": f"{base}/people/{row.person_id}/erase"},
        )
        for row in rows
    ]
    after = rows[-1].person_id if more else None
    links = cursor_links(request, f"{base}/people", None if after is None else str(after), name="after")
    return json_answer(PeoplePage(items=items, next_after=after, links=links))


_NOTHING = Sealed(UUID(int=0))


@post(
    "/api/v1/{organization_id:str}/people/{person_id:uuid}/erase",
    summary="Erase a person for ever",
    operation_class=body_of(EraseWish),
)
async def erase(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    person_id: FromPath[UUID],
) -> Response[CertificateView]:
    """Destroys the person's key: everything sealed for them is unreadable, here, in copies and in backups of the log.

    The events stay, so proofs still hold.  Asking again answers the same certificate.
    """
    body = await read_json(request, _wish)
    found = await commands.erase_person(
        eraser_of(request), principal_of(request), person_id, reason=body.reason, confirm=body.confirm
    )
    return json_answer(
        certificate_view(found, _links(found.erasure_id, base_path(request))),
        position=max(one.position for one in found.subjects),
    )


@get("/api/v1/{organization_id:str}/audit/certificates", summary="Erasures and their certificates")
async def certificates(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
) -> Response[ErasurePage]:
    """Newest first."""
    base = base_path(request)
    items = await certificate_views(request, principal_of(request).org_id, lambda erasure_id: _links(erasure_id, base))
    return json_answer(ErasurePage(items=items, links={"self": f"{base}/audit/certificates"}))


@get("/api/v1/{organization_id:str}/audit/certificates/{erasure_id:uuid}", summary="One certificate of erasure")
async def certificate(
    request: Request[Any, Any, Any],
    organization_id: FromPath[str],  # noqa: ARG001  checked by the guard
    erasure_id: FromPath[UUID],
) -> Response[CertificateView]:
    """Straight from the event store.  `status` is `requested` while keys are still being destroyed."""
    links = _links(erasure_id, base_path(request))
    return json_answer(await certificate_of(request, principal_of(request).org_id, erasure_id, links))


ROUTER = Router("/", route_handlers=[people, erase, certificates, certificate], tags=["people"])
