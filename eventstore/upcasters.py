"""How old shapes of events become new ones.  Run in the mapper only, on plain decoded data, so nobody else sees old shapes.

When `thing.happened.v2` is released, class v1 goes, and here comes a function on the decoded object:

    @UPCASTERS.upcast("thing.happened.v1", "thing.happened.v2")
    def upcast_v1_v2(data: dict[str, Any]) -> dict[str, Any]: ...

A new meaning is a new event type, not a new version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Upcast: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]


class Upcasters:
    """Steps from one tag to the next, chained until a tag has no further step."""

    def __init__(self) -> None:
        self._steps: dict[str, tuple[str, Upcast]] = {}

    def upcast(self, old: str, new: str) -> Callable[[Upcast], Upcast]:
        """Register a step.

        Raises:
            ValueError: `old` already has a step, or the chain would run in a circle.
        """
        if old in self._steps:
            raise ValueError(f"{old} already has an upcaster")
        tag: str | None = new
        while tag is not None:
            if tag == old:
                raise ValueError(f"{old} would be upcasted to itself")
            step = self._steps.get(tag)
            tag = step[0] if step else None

        def register(function: Upcast) -> Upcast:
            self._steps[old] = (new, function)
            return function

        return register

    def __contains__(self, tag: str) -> bool:
        return tag in self._steps

    def newest(self, tag: str, data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The newest tag of `data` and its data in that shape."""
        while (step := self._steps.get(tag)) is not None:
            tag, function = step
            data = function(data)
        return tag, data


UPCASTERS = Upcasters()
