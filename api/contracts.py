"""Discounts that an organization has agreed with vendors."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, post, put
from litestar.params import FromPath

from api.answers import POSITION, body_of, json_answer
from api.auth import base_path, principal_of
from api.bodies import read_json
from api.fresh import wait_until_fresh
from api.idempotency import once_of
from api.services import services_of
from commands import contracts as commands
from domain.contracts.decide import Discount
from eventstore.database import tenant
from eventstore.ids import uuid7
from eventstore.port import Outcome
from projections.contracts import PROJECTION, discounts
from schemas.contracts import DiscountBody, DiscountList, DiscountView

AnyRequest = Request[Any, Any, Any]
_T = "/api/v1/{organization_id:str}"
_body = msgspec.json.Decoder(DiscountBody)


def _view(one: Discount, base: str) -> DiscountView:
    links = {"self": f"{base}/contract_discounts/{one.discount_id}", "list": f"{base}/contract_discounts"}
    return DiscountView(**msgspec.structs.asdict(one), links=links)


def _discount(body: DiscountBody, discount_id: UUID) -> Discount:
    return Discount(discount_id, body.pattern.strip().lower(), body.basis_points, body.valid_from, body.valid_until)


def _position(outcome: Outcome | None) -> int | None:
    return None if outcome is None else outcome.position


@get(f"{_T}/contract_discounts", summary="Discounts agreed with vendors")
async def listed(request: AnyRequest, organization_id: FromPath[str]) -> Response[DiscountList]:  # noqa: ARG001
    """They lower `contract_cost_usd_micros` of the cost breakdown, never what agents report or list prices say."""
    services, org_id, base = services_of(request), principal_of(request).org_id, base_path(request)
    await wait_until_fresh(request, PROJECTION.name)
    async with tenant(services.pool, org_id) as connection:
        found = await discounts(connection, org_id)
    links = {"self": f"{base}/contract_discounts"}
    return json_answer(DiscountList(items=[_view(one, base) for one in found], links=links))


@post(f"{_T}/contract_discounts", summary="Agree on a discount", operation_class=body_of(DiscountBody))
async def add(request: AnyRequest, organization_id: FromPath[str]) -> Response[DiscountView]:  # noqa: ARG001
    """With an `Idempotency-Key` a repeat makes no second one."""
    body = await read_json(request, _body)
    once = once_of(request, "contract_discounts.add", body)
    wanted = _discount(body, once.new_id() if once is not None else uuid7())
    outcome = await commands.set_discount(services_of(request).store, principal_of(request), wanted, once=once)
    return json_answer(_view(wanted, base_path(request)), 201, position=_position(outcome))


@put(f"{_T}/contract_discounts/{{discount_id:uuid}}", summary="Set a discount", operation_class=body_of(DiscountBody))
async def change(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001
    discount_id: FromPath[UUID],
) -> Response[DiscountView]:
    """Replaces the discount of that id, for all days it holds; makes it where there is none."""
    wanted = _discount(await read_json(request, _body), discount_id)
    outcome = await commands.set_discount(services_of(request).store, principal_of(request), wanted)
    return json_answer(_view(wanted, base_path(request)), position=_position(outcome))


@delete(f"{_T}/contract_discounts/{{discount_id:uuid}}", status_code=204, summary="Undo a discount")
async def remove(
    request: AnyRequest,
    organization_id: FromPath[str],  # noqa: ARG001
    discount_id: FromPath[UUID],
) -> Response[None]:
    """As if it had never been.  To end one, set its `valid_until`."""
    outcome = await commands.remove_discount(services_of(request).store, principal_of(request), discount_id)
    headers = {} if outcome is None else {POSITION: str(outcome.position)}
    return Response(None, status_code=204, headers=headers)


ROUTER = Router("/", route_handlers=[listed, add, change, remove], tags=["contracts"])
