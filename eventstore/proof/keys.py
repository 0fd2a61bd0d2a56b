"""The installation's signature: an Ed25519 key derived from the key file, for nothing but proofs."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from domain.proof.note import PublicKey, Signature, signed

_LABEL = b"crewkit checkpoint signing key 1"  # changing it would make every auditor ask why the key changed


class Signer:
    """Signs checkpoints and certificates in the name of one log."""

    __slots__ = ("_private", "public")

    def __init__(self, master: bytes, name: str) -> None:
        """`master` is the key of the key file; `name` the log's."""
        self._private = Ed25519PrivateKey.from_private_bytes(hmac.digest(master, _LABEL, "sha256"))
        raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = PublicKey(name, raw)

    def note(self, text: str) -> str:
        """`text` with our signature under it."""
        signature = self._private.sign(text.encode())
        return signed(text, [Signature(self.public.name, self.public.hint, signature)])


def is_signed_by(key: PublicKey, text: str, signatures: Iterable[Signature]) -> bool:
    """Whether one of `signatures` is that key's over `text`."""
    public = Ed25519PublicKey.from_public_bytes(key.raw)
    for one in signatures:
        if (one.name, one.hint) == (key.name, key.hint):
            try:
                public.verify(one.signature, text.encode())
            except InvalidSignature:
                continue
            return True
    return False
