"""The sessions read model: what agents did, merged from hooks, telemetry and transcripts.

`PROJECTION` is the fold over our reader of facts and the vendored prices; `fold.build` makes one over others.
"""

from __future__ import annotations

from domain.pricing import Priced, price
from domain.sessions.observations import Tokens
from domain.sessions.reading import observe
from projections.prices import price_book
from projections.sessions.fold import build
from projections.sessions.tables import ModelCallRow


def list_price(call: ModelCallRow) -> Priced:
    """What a call costs by the vendored tables."""
    return price(
        price_book(),
        call.model,
        Tokens(
            input=call.input_tokens,
            output=call.output_tokens,
            cache_read=call.cache_read_tokens,
            cache_write_5m=call.cache_write_5m_tokens,
            cache_write_1h=call.cache_write_1h_tokens,
            reasoning=call.reasoning_tokens,
        ),
        call.at,
        speed=call.speed,
        service_tier=call.service_tier,
        web_searches=call.web_searches,
    )


PROJECTION = build(observe, list_price)
