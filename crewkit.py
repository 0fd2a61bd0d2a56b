"""The one module crewkit installs at top level; everything else sits beside it or inside `_crewkit/`.

In a checkout the layers are plain folders next to this file.  In a wheel the same folders live in a private `_crewkit/`,
so that crewkit can never shadow, or be shadowed by, a user's own `api` or `cli` package.
"""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_LAYERS = _HERE / "_crewkit" if (_HERE / "_crewkit").is_dir() else _HERE


def main() -> int:
    """Run the `crewkit` program and return its exit code."""
    sys.path.insert(0, str(_LAYERS))
    from cli.main import main as run  # noqa: PLC0415  the path must be set first

    return run()


if __name__ == "__main__":
    sys.exit(main())
