"""What staff ask: the register of organizations, accounts, and numbers about the installation."""

from __future__ import annotations

from projections.admin.register import PROJECTION

__all__ = ["PROJECTION"]
