"""A real SMTP server on loopback that misbehaves as a test wants."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

USER, PASSWORD = "crewkit", "a mail password"


class PostOffice:
    """What arrived; `recipient`, `content` and `drops` say how the next mails are treated."""

    def __init__(self) -> None:
        self.arrived: list[EmailMessage] = []
        self.envelopes: list[tuple[str | None, list[str]]] = []
        self.recipient: list[str] = []  # answers to RCPT, used up first to last
        self.content: list[str] = []  # answers after DATA
        self.drops = 0  # connections cut after the server asked for the data
        self.on_arrival: Callable[[], None] = lambda: None
        self.port = 0

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, _: SMTP, __: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.recipient:
            return self.recipient.pop(0)
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.content:
            return self.content.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        self.arrived.append(BytesParser(EmailMessage, policy=policy.default).parsebytes(content))
        self.envelopes.append((envelope.mail_from, list(envelope.rcpt_tos)))
        self.on_arrival()
        return "250 OK"


class _Server(SMTP):
    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        office: PostOffice = self.event_handler
        if office.drops:
            office.drops -= 1
            await self.push("354 go on")
            self.transport.abort()
            return
        await super().smtp_DATA(arg)


def _authenticate(_: Any, __: Any, ___: Any, ____: str, data: Any) -> AuthResult:
    assert isinstance(data, LoginPassword)
    return AuthResult(success=(data.login, data.password) == (USER.encode(), PASSWORD.encode()), handled=False)


@asynccontextmanager
async def post_office(
    *, tls: ssl.SSLContext | None = None, implicit: bool = False, login: bool = False
) -> AsyncIterator[PostOffice]:
    """Serve until the block ends.  `tls` offers STARTTLS and requires it, or is spoken from the first byte (`implicit`)."""
    office = PostOffice()
    options: dict[str, Any] = {"enable_SMTPUTF8": True}
    if tls is not None and not implicit:
        options |= {"tls_context": tls, "require_starttls": True}
    if login:
        options |= {"authenticator": _authenticate, "auth_required": True, "auth_require_tls": True}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Server(office, hostname="mail.test", loop=loop, **options),
        "127.0.0.1",
        0,
        ssl=tls if implicit else None,
    )
    office.port = server.sockets[0].getsockname()[1]
    try:
        yield office
    finally:
        server.close()
        await server.wait_closed()


def certificate(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate for `localhost`, and the file to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, secret = folder / "mail.pem", folder / "mail.key"
    trusted.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(trusted, secret)
    return context, str(trusted)
