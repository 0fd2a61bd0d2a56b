"""Settings: every `CREWKIT_*` environment variable, read once, with its default and its meaning."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Field `database_url` is read from `CREWKIT_DATABASE_URL`, and so on.  Documented in docs/reference/settings.md."""

    database_url: Annotated[str | None, Meta(description="Postgres to use instead of the embedded one")] = None
    nats_url: Annotated[str | None, Meta(description="NATS server to use instead of the embedded one")] = None
    data_dir: Annotated[str, Meta(description="where `crewkit up` keeps databases, logs, keys and crewkit.json")] = ""
    host: Annotated[str, Meta(description="address the API binds to")] = "127.0.0.1"
    port: Annotated[int, Meta(description="port the API binds to")] = 8000
    api_workers: Annotated[int, Meta(description="uvicorn worker processes")] = 1
    key_file: Annotated[str | None, Meta(description="file that holds the key which wraps people's keys")] = None
    log_format: Annotated[str, Meta(description="`json` or `console`")] = "console"
    log_level: Annotated[str, Meta(description="debug, info, warning or error")] = "info"
    url: Annotated[str | None, Meta(description="API the client commands talk to")] = None
    api_key: Annotated[str | None, Meta(description="API key the client commands use")] = None
    organization: Annotated[str | None, Meta(description="organization the client commands use")] = None
    sign_ins_per_min: Annotated[int, Meta(description="tries to sign in per minute and address; 0: no limit")] = 60
    trusted_proxies: Annotated[
        str | None,
        Meta(
            description="proxies (addresses or networks, with commas between) whose `X-Forwarded-For` tells who calls"
        ),
    ] = None
    cors_origins: Annotated[
        str | None,
        Meta(
            description="sites (origins, with commas between) whose pages may call the API with a token or key of their own; `*`: any"
        ),
    ] = None
    public_url: Annotated[str | None, Meta(description="address people reach the API at, for links and passkeys")] = (
        None
    )
    stale_after_s: Annotated[int, Meta(description="seconds without events after which a session times out")] = 1800
    seal_every_s: Annotated[float, Meta(description="seconds after which new events are sealed in a checkpoint")] = 10.0
    seal_every_events: Annotated[int, Meta(description="new events after which a checkpoint is made at once")] = 10_000
    body_bytes_max: Annotated[int, Meta(description="largest request body accepted, in bytes after unzipping")] = (
        16 * 1024 * 1024
    )
    read_after_wait_s: Annotated[float, Meta(description="longest wait for Crewkit-After before 503")] = 5.0
    rate_limit_per_s: Annotated[int, Meta(description="requests per second and principal; 0 turns the limit off")] = 0
    heartbeat_interval_s: Annotated[float, Meta(description="seconds between keep-alives of a silent live stream")] = (
        15.0
    )
    heartbeat_timeout_s: Annotated[
        float, Meta(description="seconds after which a live stream's other end that is not heard of counts as gone")
    ] = 120.0
    object_store_url: Annotated[
        str, Meta(description="where consolidated items go: `file:///folder` or `s3://bucket/prefix`")
    ] = ""
    consolidate_every_s: Annotated[float, Meta(description="seconds between runs of consolidation; 0 turns it off")] = (
        60.0
    )
    consolidate_after_s: Annotated[
        int, Meta(description="seconds without news after which an ended session's items are consolidated")
    ] = 300
    consolidate_batch_max: Annotated[
        int, Meta(description="conversations whose items one run of consolidation writes, at most")
    ] = 100
    anthropic_api_key: Annotated[
        str | None, Meta(description="key of the model API that writes about sessions; without it no model is asked")
    ] = None
    anthropic_base_url: Annotated[str | None, Meta(description="model API to use instead of the vendor's own")] = None
    insights_model: Annotated[str, Meta(description="model that writes about sessions")] = "claude-haiku-4-5"
    insights_per_day_max: Annotated[
        int, Meta(description="times per day (UTC) and organization that the model is asked", ge=0)
    ] = 200
    insights_tokens_max: Annotated[int, Meta(description="tokens the model may write about one session", ge=256)] = 2000
    insights_settle_s: Annotated[
        float,
        Meta(description="seconds a session must have been quiet after its end before a model writes about it", ge=0),
    ] = 60.0
    smtp_host: Annotated[
        str | None, Meta(description="mail server; without it mails land as files in the data folder's `mail/`")
    ] = None
    smtp_port: Annotated[int, Meta(description="port of the mail server")] = 587
    smtp_security: Annotated[
        Literal["starttls", "tls", "none"],
        Meta(description="`starttls` (refused without), `tls` from the first byte, or `none`"),
    ] = "starttls"
    smtp_user: Annotated[str | None, Meta(description="login at the mail server")] = None
    smtp_password: Annotated[str | None, Meta(description="password at the mail server")] = None
    smtp_ca_file: Annotated[
        str | None, Meta(description="certificates (PEM) to trust at the mail server instead of the system's")
    ] = None
    mail_from: Annotated[str, Meta(description="sender of mails")] = "crewkit <no-reply@localhost>"
    analytics_memory_mb: Annotated[
        int, Meta(description="memory DuckDB may use in one analytics worker, in MB", ge=64)
    ] = 1024
    analytics_deadline_s: Annotated[
        float, Meta(description="longest time an analytics question may take before 503", gt=0, le=30)
    ] = 5.0
    export_memory_mb: Annotated[
        int, Meta(description="memory DuckDB may use to write an export's files, in MB", ge=64)
    ] = 256
    export_deadline_s: Annotated[
        float, Meta(description="seconds after which an export that is not written is given up", gt=0)
    ] = 1800.0
    export_bytes_max: Annotated[
        int, Meta(description="largest file of an export, and most scratch space while it is written, in bytes", ge=1)
    ] = 20 * 1024**3
    export_keep_s: Annotated[int, Meta(description="seconds for which the file of an export can be fetched", ge=1)] = (
        7 * 24 * 3600
    )
    spool_bytes_max: Annotated[int, Meta(description="largest local spool, in bytes")] = 256 * 1024 * 1024


def public_url(settings: Settings) -> str:
    """Where people reach the API, without a slash at the end: `public_url`, else this machine under its own name."""
    return (settings.public_url or f"http://localhost:{settings.port}").rstrip("/")


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """`$CREWKIT_DATA_DIR`, else the XDG data folder, else `~/.local/share/crewkit`."""
    if chosen := environ.get("CREWKIT_DATA_DIR"):
        return Path(chosen).expanduser()
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "crewkit"


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from the environment.

    Raises:
        ValueError: a variable has a value of the wrong type; the message names the variable and what was expected.
    """
    values: dict[str, str] = {}
    for field in Settings.__struct_fields__:
        if (value := environ.get(f"CREWKIT_{field.upper()}")) is not None and value != "":
            values[field] = value
    values.setdefault("data_dir", str(default_data_dir(environ)))
    for field in list(values):
        try:
            msgspec.convert({field: values[field], "data_dir": values["data_dir"]}, Settings, strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(f"CREWKIT_{field.upper()}: {error}") from error
    return msgspec.convert(values, Settings, strict=False)
