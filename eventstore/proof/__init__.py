"""Sealing the log and reading what was sealed (docs/reference/proof.md)."""

from __future__ import annotations

from eventstore.proof.keys import Signer, is_signed_by
from eventstore.proof.nodes import log_hashes, organization_hashes
from eventstore.proof.seal import SEAL_EVENTS_MAX, Seal, last_seal, log_name, seal

__all__ = [
    "SEAL_EVENTS_MAX",
    "Seal",
    "Signer",
    "is_signed_by",
    "last_seal",
    "log_hashes",
    "log_name",
    "organization_hashes",
    "seal",
]
