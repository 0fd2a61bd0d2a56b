"""AWS KMS: `Encrypt` and `Decrypt` over its JSON protocol, signed with version 4 of AWS' signatures.  Two calls need no SDK."""

from __future__ import annotations

import hmac
import http.client
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Self
from urllib.parse import urlsplit

WAIT_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024
TYPE = "application/x-amz-json-1.1"
CONTEXT = {"purpose": "crewkit master key 1"}  # authenticated with the key: a wrapped key of another use does not open
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class KmsError(OSError):
    """The service refused, cannot be reached, or nobody told us how."""


class Credentials:
    """Who calls.  Never shown."""

    __slots__ = ("key_id", "secret", "token")

    def __init__(self, key_id: str, secret: str, token: str | None) -> None:
        self.key_id = key_id
        self.secret = secret
        self.token = token


class AwsKms:
    """One key of AWS KMS."""

    def __init__(self, key_id: str, region: str, url: str, credentials: Credentials) -> None:
        self._key_id = key_id
        self._region = region
        self._url = urlsplit(url)
        self._credentials = credentials
        if self._url.scheme != "https" and self._url.hostname not in _LOOPBACK:
            raise KmsError(f"AWS KMS is only called over https, not at {url}")

    @classmethod
    def from_environment(cls, key_id: str, region: str | None, environ: Mapping[str, str]) -> Self:
        """Credentials, and where they are not given with the key region and address, from AWS' own variables.

        Raises:
            KmsError: a variable is missing; the message names it.
        """
        where = region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
        names = {
            "AWS_ACCESS_KEY_ID": environ.get("AWS_ACCESS_KEY_ID"),
            "AWS_SECRET_ACCESS_KEY": environ.get("AWS_SECRET_ACCESS_KEY"),
        }
        names["AWS_REGION"] = where
        if missing := [name for name, value in names.items() if not value]:
            raise KmsError(f"AWS KMS needs {', '.join(missing)} in the environment")
        url = environ.get("AWS_ENDPOINT_URL_KMS") or environ.get("AWS_ENDPOINT_URL")
        credentials = Credentials(
            names["AWS_ACCESS_KEY_ID"] or "", names["AWS_SECRET_ACCESS_KEY"] or "", environ.get("AWS_SESSION_TOKEN")
        )
        return cls(key_id, where or "", url or f"https://kms.{where}.amazonaws.com", credentials)

    def wrap(self, key: bytes) -> bytes:
        """See the port."""
        return self._bytes("CiphertextBlob", self._call("Encrypt", {"Plaintext": b64encode(key).decode()}))

    def unwrap(self, wrapped: bytes) -> bytes:
        """See the port."""
        return self._bytes("Plaintext", self._call("Decrypt", {"CiphertextBlob": b64encode(wrapped).decode()}))

    @staticmethod
    def _bytes(name: str, answer: dict[str, Any]) -> bytes:
        try:
            return b64decode(answer[name], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise KmsError(f"AWS KMS answered without {name}") from error

    def _call(self, action: str, fields: dict[str, str]) -> dict[str, Any]:
        body = json.dumps({"KeyId": self._key_id, "EncryptionContext": CONTEXT, **fields}).encode()
        host = self._url.netloc
        headers = signed_headers(
            host, f"TrentService.{action}", body, self._region, self._credentials, datetime.now(UTC)
        )
        secure = self._url.scheme == "https"
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        link = connect(self._url.hostname or "", self._url.port, timeout=WAIT_S)
        try:
            link.request("POST", "/", body, headers)
            response = link.getresponse()
            raw = response.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise KmsError(f"AWS KMS at {host} cannot be reached: {error}") from error
        finally:
            link.close()
        try:
            answer: dict[str, Any] = json.loads(raw)
        except ValueError as error:
            raise KmsError(f"AWS KMS at {host} answered {response.status} and no JSON") from error
        if response.status != 200:
            what = str(answer.get("__type", "")).rpartition("#")[2]
            told = answer.get("message") or answer.get("Message") or ""
            raise KmsError(f"AWS KMS refused {action}: {response.status} {what} {told}".rstrip())
        return answer


def signed_headers(host: str, target: str, body: bytes, region: str, who: Credentials, at: datetime) -> dict[str, str]:
    """Headers of a POST to `/` that prove who sends it."""
    stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    headers = {"content-type": TYPE, "host": host, "x-amz-date": stamp, "x-amz-target": target}
    if who.token:
        headers["x-amz-security-token"] = who.token
    names = sorted(headers)
    lines = "".join(f"{name}:{headers[name]}\n" for name in names)
    request = f"POST\n/\n\n{lines}\n{';'.join(names)}\n{sha256(body).hexdigest()}"
    scope = f"{day}/{region}/kms/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    key = f"AWS4{who.secret}".encode()
    for part in (day, region, "kms", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={who.key_id}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return headers
