"""The master key wrapped by AWS KMS, against a server that speaks its protocol and a signer that is not ours."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.capture.paths import ClientDir
from eventstore import kms
from eventstore.kms import KeyFileError
from eventstore.kms.aws import AwsKms, Credentials, KmsError, signed_headers
from eventstore.sealing import load_or_create_master_key
from tests.cli.conftest import crewkit, paths

__all__ = ["paths"]  # fixture


@pytest.fixture
def kms_key(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a key of the service that the environment names (the same server speaks many protocols)."""
    import boto3  # noqa: PLC0415  takes a second

    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", s3_server)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    client: Any = boto3.client("kms", endpoint_url=s3_server, region_name="eu-central-1")
    return str(client.create_key()["KeyMetadata"]["KeyId"])


def test_a_wrapped_key_file_gives_the_same_key_and_does_not_hold_it(
    kms_key: str, master_key_file: Path, paths: ClientDir
) -> None:
    assert paths.home.is_dir()
    plain = master_key_file.read_bytes()
    key = load_or_create_master_key(master_key_file)
    file = str(master_key_file)
    done = crewkit("keys", "wrap", "--key-id", kms_key, "--key-file", file)
    assert "restart" in done.stdout
    wrapped = master_key_file.read_bytes()
    assert plain.strip() not in wrapped
    assert master_key_file.stat().st_mode & 0o777 == 0o600
    assert load_or_create_master_key(master_key_file) == key
    crewkit("keys", "wrap", "--key-id", kms_key, "--key-file", file)  # again, as after a change of keys
    assert master_key_file.read_bytes() != wrapped
    assert load_or_create_master_key(master_key_file) == key
    crewkit("keys", "unwrap", "--key-file", file)
    assert master_key_file.read_bytes().strip() == plain.strip()


def test_what_cannot_be_wrapped_leaves_the_file_as_it_was(
    kms_key: str, master_key_file: Path, paths: ClientDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paths.home.is_dir()
    before, file = master_key_file.read_bytes(), str(master_key_file)
    done = crewkit("keys", "wrap", "--key-id", "nobody-knows-it", "--key-file", file, check=1)
    assert "AWS KMS refused Encrypt: 400 NotFoundException" in done.stderr
    crewkit("keys", "wrap", "--key-id", kms_key, "--key-file", file + ".other", check=1)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    done = crewkit("keys", "wrap", "--key-id", kms_key, "--key-file", file, check=1)
    assert "AWS KMS needs AWS_SECRET_ACCESS_KEY" in done.stderr
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    assert "cannot be reached" in crewkit("keys", "wrap", "--key-id", kms_key, "--key-file", file, check=1).stderr
    assert master_key_file.read_bytes() == before


def test_a_key_that_was_wrapped_for_another_use_does_not_open(kms_key: str, s3_server: str) -> None:
    import boto3  # noqa: PLC0415

    client: Any = boto3.client("kms", endpoint_url=s3_server, region_name="eu-central-1")
    other = client.encrypt(KeyId=kms_key, Plaintext=b"k" * 32, EncryptionContext={"purpose": "another"})
    with pytest.raises(KmsError, match="refused Decrypt"):
        kms.service("aws", kms_key, None).unwrap(other["CiphertextBlob"])


def test_a_key_of_another_length_is_none(kms_key: str) -> None:
    with pytest.raises(KeyFileError, match="answered 5"):
        kms.unwrap(kms.wrap(b"short", "aws", kms_key))


@pytest.mark.parametrize("raw", [b"{", b"{}", b'{"kms":"aws"}', b'{"kms":"x","key_id":"k","wrapped":""}'])
def test_a_file_that_is_no_wrapped_key_is_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(raw)
    with pytest.raises(KeyFileError):
        load_or_create_master_key(path)


def test_the_service_is_never_called_in_the_clear_over_a_network() -> None:
    with pytest.raises(KmsError, match="https"):
        AwsKms("k", "eu-central-1", "http://kms.example.com", Credentials("a", "b", None))


@pytest.mark.parametrize("token", [None, "session/token=="])
def test_our_signature_is_the_one_of_the_vendors_own_program(token: str | None) -> None:
    from botocore.auth import SigV4Auth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials as Theirs  # noqa: PLC0415

    host, body, target = "kms.eu-central-1.amazonaws.com", b'{"KeyId":"k"}', "TrentService.Decrypt"
    ours = signed_headers(
        host, target, body, "eu-central-1", Credentials("AKID", "secret/key", token), datetime.now(UTC)
    )
    request = AWSRequest("POST", f"https://{host}/", data=body)
    for name, value in ours.items():
        if name not in {"authorization", "x-amz-security-token"}:
            request.headers[name] = value
    signer = SigV4Auth(Theirs("AKID", "secret/key", token), "kms", "eu-central-1")
    request.context["timestamp"] = ours["x-amz-date"]
    if token:
        request.headers["X-Amz-Security-Token"] = token
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert ours["authorization"].endswith(f"Signature={signature}")
