"""WebAuthn's two ceremonies, by the `webauthn` library, which is loaded when somebody uses a passkey for the first time."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import msgspec

# What its parsing and checking of a stranger's JSON raise.  Its own exceptions are wrapped below.
BROKEN = (ValueError, KeyError, TypeError, AttributeError)


class RelyingParty(msgspec.Struct, frozen=True):
    """This site, as authenticators know it: `id` is its host name, `origin` what browsers show in the address bar."""

    id: str
    origin: str
    name: str = "crewkit"


class Credential(msgspec.Struct, frozen=True):
    """What an authenticator made."""

    credential_id: bytes
    public_key: bytes
    sign_count: int


async def _library() -> tuple[Any, Any, Any]:
    """The library, its structures and its exceptions; loading takes a moment that nobody else shall wait."""
    names = ("webauthn", "webauthn.helpers.structs", "webauthn.helpers.exceptions")
    first, second, third = [await asyncio.to_thread(importlib.import_module, name) for name in names]
    return first, second, third


async def options_to_register(
    party: RelyingParty, challenge: bytes, user: bytes, shown: str, known: list[bytes], life_ms: int
) -> dict[str, Any]:
    """Argument of `navigator.credentials.create`: a new passkey for `user`, on no authenticator that holds one of `known`."""
    library, structs, _ = await _library()
    options = library.generate_registration_options(
        rp_id=party.id,
        rp_name=party.name,
        user_id=user,
        user_name=shown,
        challenge=challenge,
        timeout=life_ms,
        exclude_credentials=[structs.PublicKeyCredentialDescriptor(id=one) for one in known],
        authenticator_selection=structs.AuthenticatorSelectionCriteria(
            resident_key=structs.ResidentKeyRequirement.PREFERRED,
            user_verification=structs.UserVerificationRequirement.REQUIRED,
        ),
    )
    return _plain(library, options)


async def options_to_log_in(
    party: RelyingParty, challenge: bytes, allowed: list[bytes], life_ms: int
) -> dict[str, Any]:
    """Argument of `navigator.credentials.get`; nothing in `allowed`: whichever passkey the authenticator knows."""
    library, structs, _ = await _library()
    options = library.generate_authentication_options(
        rp_id=party.id,
        challenge=challenge,
        timeout=life_ms,
        allow_credentials=[structs.PublicKeyCredentialDescriptor(id=one) for one in allowed],
        user_verification=structs.UserVerificationRequirement.REQUIRED,
    )
    return _plain(library, options)


async def verify_registration(party: RelyingParty, challenge: bytes, credential: dict[str, Any]) -> Credential:
    """What the authenticator made.

    Raises:
        any of BROKEN: it does not fit the challenge, this site, or the standard.
    """
    library, _, exceptions = await _library()
    try:
        made = library.verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origin,
            require_user_verification=True,
        )
    except exceptions.WebAuthnException as error:
        raise ValueError("the authenticator's answer does not fit") from error
    return Credential(made.credential_id, made.credential_public_key, made.sign_count)


async def verify_login(party: RelyingParty, challenge: bytes, public_key: bytes, credential: dict[str, Any]) -> int:
    """What the authenticator's counter says, after its signature was checked.  Comparing it is the caller's.

    Raises:
        any of BROKEN: it does not fit the key, the challenge, this site, or the standard.
    """
    library, _, exceptions = await _library()
    try:
        verified = library.verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origin,
            credential_public_key=public_key,
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except exceptions.WebAuthnException as error:
        raise ValueError("the authenticator's answer does not fit") from error
    return int(verified.new_sign_count)


def _plain(library: Any, options: Any) -> dict[str, Any]:
    return dict(msgspec.json.decode(library.options_to_json(options)))
