"""Find the slices of a layer by walking its package, so that adding a slice edits no list."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def modules(package: ModuleType) -> list[ModuleType]:
    """Every direct sub-module or sub-package of `package` whose name has no leading underscore, by name."""
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_"))
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def collect(package: ModuleType, kind: type[T]) -> list[T]:
    """All module-level objects of type `kind` in the slices of `package`, each once, in order of slice name."""
    found: dict[int, T] = {}
    for module in modules(package):
        for value in vars(module).values():
            if isinstance(value, kind):
                found.setdefault(id(value), value)
    return list(found.values())


def subclasses(package: ModuleType, base: type[T]) -> list[type[T]]:
    """Every class below `base` that the slices of `package` define in their `events` modules (or in themselves)."""
    found: dict[str, type[T]] = {}
    for module in modules(package):
        inner = modules(module) if hasattr(module, "__path__") else []
        for place in (module, *inner):
            for value in vars(place).values():
                if isinstance(value, type) and issubclass(value, base) and value.__module__ == place.__name__:
                    found.setdefault(f"{value.__module__}.{value.__qualname__}", value)
    return list(found.values())
