"""Certificates of erasures for staff: of accounts that are closed, whose users can ask for none, and of an organization."""

from __future__ import annotations

from uuid import UUID

from litestar import Response, get
from litestar.params import FromPath

from api.admin.history import Organization, chosen
from api.admin.notes import BASE, AnyRequest, noted, reasoned
from api.answers import json_answer
from api.erasure import certificate_of, certificate_views
from domain.erasure.decide import erasure_stream
from schemas.erasure import CertificateView, ErasurePage

PATH = f"{BASE}/certificates"


def links_of(erasure_id: UUID, tail: str = "") -> dict[str, str]:
    """Where an erasure is shown; `tail` is what links have to repeat for one of an organization."""
    more = f"?{tail}" if tail else ""
    return {
        "self": f"{PATH}/{erasure_id}{more}",
        "history": f"{BASE}/events?stream={erasure_stream(erasure_id)}{f'&{tail}' if tail else ''}",
    }


@get(PATH, summary="Erasures of accounts, or of an organization, and their certificates", operation_class=reasoned())
async def list_certificates(request: AnyRequest, organization: Organization = None) -> Response[ErasurePage]:
    """Newest first.  Without `organization` those of accounts: whoever closed theirs cannot sign in to ask again."""
    row, org_id, tail = await chosen(request, organization)
    await noted(request, "certificates.list", organization=row)
    items = await certificate_views(request, org_id, lambda erasure_id: links_of(erasure_id, tail))
    return json_answer(ErasurePage(items=items, links={"self": f"{PATH}?{tail}" if tail else PATH}))


@get(f"{PATH}/{{erasure_id:uuid}}", summary="One certificate of erasure", operation_class=reasoned())
async def one_certificate(
    request: AnyRequest, erasure_id: FromPath[UUID], organization: Organization = None
) -> Response[CertificateView]:
    """Straight from the event store.  `status` is `requested` while keys are still being destroyed."""
    row, org_id, tail = await chosen(request, organization)
    await noted(request, "certificate.show", organization=row, target=str(erasure_stream(erasure_id)))
    return json_answer(await certificate_of(request, org_id, erasure_id, links_of(erasure_id, tail)))


HANDLERS = [list_certificates, one_certificate]
