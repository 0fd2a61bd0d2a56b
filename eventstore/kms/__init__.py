"""The master key itself, wrapped by a key management service: a stolen key file is then worth nothing without the service.

A wrapped key file is JSON: `{"kms": "aws", "key_id": "…", "region": "…", "wrapped": "<base64>"}`.  It is unwrapped once per process, at
its start; people's keys are wrapped by the master key as ever, so no request waits for the service.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

import msgspec

from eventstore.kms.aws import AwsKms

KEY_BYTES = 32


class KeyFileError(ValueError):
    """The key file is none of ours, or names a service that this program does not know."""


class Kms(Protocol):
    """Wraps and unwraps a few bytes with a key that never leaves the service.  Implementations: `eventstore.kms.aws.AwsKms`."""

    def wrap(self, key: bytes) -> bytes:
        """What may be stored.

        Raises:
            KmsError: the service refused or cannot be reached.
        """
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """The bytes that were wrapped.

        Raises:
            KmsError: the service refused or cannot be reached.
        """
        ...


class WrappedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a wrapped key file holds.  `region` is AWS's; `key_id` an id, an alias or an ARN."""

    kms: str
    key_id: str
    wrapped: bytes
    region: str | None = None


def service(kms: str, key_id: str, region: str | None, environ: Mapping[str, str] = os.environ) -> Kms:
    """The adapter for a service, with credentials from the environment.

    Raises:
        KeyFileError: there is no adapter of that name.
        KmsError: the environment lacks credentials.
    """
    if kms != "aws":
        raise KeyFileError(f"key management service {kms!r} is not known; there is: aws")
    return AwsKms.from_environment(key_id, region, environ)


def wrap(key: bytes, kms: str, key_id: str, region: str | None = None) -> bytes:
    """The content of a key file that only the service can open.

    Raises:
        KeyFileError, KmsError: see `service` and `Kms.wrap`.
    """
    wrapped = service(kms, key_id, region).wrap(key)
    return msgspec.json.encode(WrappedKey(kms, key_id, wrapped, region)) + b"\n"


def unwrap(raw: bytes) -> bytes:
    """The key in a wrapped key file.

    Raises:
        KeyFileError, KmsError: see `service` and `Kms.unwrap`.
    """
    try:
        found = msgspec.json.decode(raw, type=WrappedKey)
    except msgspec.DecodeError as error:
        raise KeyFileError(f"this is no wrapped key: {error}") from error
    key = service(found.kms, found.key_id, found.region).unwrap(found.wrapped)
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"expected a key of {KEY_BYTES} bytes, the service answered {len(key)}")
    return key
