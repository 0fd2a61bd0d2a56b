"""Secrets are replaced before anything leaves: `[redacted:<rule>]`.

Each rule has `hints`, literal pieces of text one of which every match contains; a text without any hint is returned as it
is, which keeps redaction at the speed of a substring search for ordinary text.  Where a rule has a group `v`, only that
part is replaced, so that one still sees which header or variable it was.  Adding a rule needs a line here and one in
tests/cli/test_redact.py.  Formats: the vendors' documentation, and the detectors of detect-secrets (Apache-2.0).
"""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

DEPTH_MAX = 64
KEY_CHARS_MIN = 12
TEXT_CHARS_MIN = 6


class Rule(msgspec.Struct, frozen=True):
    """`hints` are lower case and compared with the lower-cased text."""

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]


def _rule(name: str, hints: str, pattern: str, flags: int = 0) -> Rule:
    return Rule(name, tuple(hints.split()), re.compile(pattern, flags))


_NAMES = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|(?:api|access|account|auth|encryption|master|private"
    r"|shared[_-]?access|signing|webhook)[_-]?(?:key|secret|token)|client[_-]?secret|credentials?|(?:bearer|refresh|session|id|bot"
    r"|personal[_-]?access|oauth|jwt|csrf|deploy)[_-]?token|token)"
)
_KEYWORDS = "pass pwd secret key token credential"
# What stands where a secret would stand, but is none: references, placeholders, types, switches, numbers of tokens.
_NOT = (
    r"(?!\$|<|\{|%|\*{3}|\.{3}|\[redacted|(?:true|false|none|null|nil|undefined|str|string|bytes|int|optional|required"
    r"|os\.|process\.|env\.|self\.|this\.|config\.|settings\.|secrets\.)|\d{1,7}(?![\w.]))"
)

RULES: tuple[Rule, ...] = (
    _rule(
        "private-key",
        "private",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|\Z)",
        re.DOTALL,
    ),
    _rule("putty-key", "private-lines", r"(?<=Private-Lines: )\d+\s[A-Za-z0-9+/=\s]+"),
    _rule("age-key", "age-secret-key-", r"\bAGE-SECRET-KEY-1[0-9A-Z]{50,}"),
    _rule("crewkit-key", "ck_", r"\bck_[0-9a-f]{32}_[A-Za-z0-9_-]{20,}"),
    _rule("anthropic-key", "sk-ant-", r"\bsk-ant-[A-Za-z0-9_-]{12,}"),
    _rule("openrouter-key", "sk-or-", r"\bsk-or-[A-Za-z0-9_-]{20,}"),
    _rule("openai-key", "sk-", r"\bsk-(?:proj-|svcacct-|admin-|None-)?(?=[A-Za-z0-9_-]*\d)(?=[A-Za-z0-9_-]*[A-Z])[A-Za-z0-9_-]{20,}"),
    _rule("aws-access-key", "akia asia abia acca", r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b"),
    _rule("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"\bgh[pousr]_[A-Za-z0-9]{30,255}"),
    _rule("github-pat", "github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{22,255}"),
    _rule("gitlab-token", "glpat- gldt- glrt- glptt- glft- glsoat- glcbt-", r"\bgl(?:pat|dt|rt|ptt|ft|soat|cbt)-[A-Za-z0-9_.-]{16,}"),
    _rule("slack-token", "xoxa- xoxb- xoxp- xoxo- xoxr- xoxs- xoxe xapp-", r"\b(?:xox[abposre]|xapp)[-.][A-Za-z0-9.-]{10,}"),
    _rule("slack-webhook", "hooks.slack.com", r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/_-]{20,}"),
    _rule("discord-webhook", "/api/webhooks/", r"https://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/\d+/[A-Za-z0-9_-]{40,}"),
    _rule("teams-webhook", "webhook.office.com", r"https://[\w.-]+\.webhook\.office\.com/webhookb2/[\w@/-]{40,}"),
    _rule("stripe-key", "k_live_ k_test_ whsec_", r"\b(?:[srp]k_(?:live|test)_|whsec_)[0-9A-Za-z]{16,}"),
    _rule("google-api-key", "aiza", r"\bAIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"),
    _rule("google-oauth", "ya29. gocspx-", r"\b(?:ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{20,})"),
    _rule("npm-token", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    _rule("pypi-token", "pypi-ageichlwas5vcmc", r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{20,}"),
    _rule("docker-token", "dckr_pat_ dckr_oat_", r"\bdckr_[po]at_[A-Za-z0-9_-]{20,}"),
    _rule("jwt", "eyj", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    _rule("sendgrid-key", "sg.", r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{30,}"),
    _rule("twilio-key", "sk ac", r"\b(?:SK|AC)[0-9a-f]{32}\b"),
    _rule("mailgun-key", "key-", r"\bkey-[0-9a-f]{32}\b"),
    _rule("mailchimp-key", "-us", r"\b[0-9a-f]{32}-us\d{1,2}\b"),
    _rule("telegram-token", ":aa", r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"),
    _rule("discord-token", "m n o", r"\b[MNO][A-Za-z\d_-]{23,25}\.[A-Za-z\d_-]{6}\.[A-Za-z\d_-]{27,38}(?![A-Za-z\d_-])"),
    _rule("square-token", "sq0 eaaa", r"\b(?:sq0[a-z]{3}-[0-9A-Za-z_-]{22,43}|EAAA[0-9A-Za-z_-]{60})\b"),
    _rule("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _rule("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", r"\bdo[opr]_v1_[a-f0-9]{64}"),
    _rule("huggingface-token", "hf_ api_org_", r"\b(?:hf|api_org)_[A-Za-z]{30,}"),
    _rule("databricks-token", "dapi", r"\bdapi[0-9a-f]{32}(?:-\d)?\b"),
    _rule("vault-token", "hvs. hvb. hvr.", r"\bhv[sbr]\.[A-Za-z0-9_-]{24,}"),
    _rule("linear-key", "lin_api_ lin_oauth_", r"\blin_(?:api|oauth)_[A-Za-z0-9]{32,}"),
    _rule("atlassian-token", "atatt3 atctt3 atbb", r"\b(?:AT[AC]TT3[A-Za-z0-9_=-]{40,}|ATBB[A-Za-z0-9_=-]{28,})"),
    _rule("grafana-token", "glsa_ glc_", r"\bgl(?:sa|c)_[A-Za-z0-9+/=_]{32,}"),
    _rule("sentry-token", "sntrys_ sntryu_", r"\bsntry[su]_[A-Za-z0-9+/=_]{40,}"),
    _rule("newrelic-key", "nrak- nrjs-", r"\bNR(?:AK|JS)-[A-Za-z0-9]{19,}"),
    _rule("postman-key", "pmak-", r"\bPMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    _rule("doppler-token", "dp.pt. dp.st. dp.ct. dp.sa.", r"\bdp\.(?:pt|st|ct|sa)\.[A-Za-z0-9._-]{30,}"),
    _rule("tailscale-key", "tskey-", r"\btskey-[a-z]+-[A-Za-z0-9_-]{16,}"),
    _rule("planetscale-token", "pscale_", r"\bpscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{30,}"),
    _rule("supabase-key", "sbp_ sb_secret_", r"\b(?:sbp_[a-f0-9]{40}|sb_secret_[A-Za-z0-9_-]{20,})"),
    _rule("ai-key", "gsk_ xai- pplx- r8_ nvapi- tgp_v1_", r"\b(?:gsk_|xai-|pplx-|r8_|nvapi-|tgp_v1_)(?=[A-Za-z0-9_-]*\d)[A-Za-z0-9_-]{32,}"),
    _rule("flyio-token", "fo1_ flyv1", r"\b(?:fo1_[\w-]{43}|FlyV1 fm2_[A-Za-z0-9+/=,_-]{40,})"),
    _rule("cloudflare-key", "v1.0-", r"\bv1\.0-[0-9a-f]{24}-[0-9a-f]{146}\b"),
    _rule("azure-key", "accountkey= sharedaccesskey=", r"(?:AccountKey|SharedAccessKey)=(?P<v>[A-Za-z0-9+/]{40,}={0,2})"),
    _rule("signed-url", "signature= sig=", r"[?&](?:X-Amz-Signature|X-Goog-Signature|sig|Signature)=(?P<v>[A-Za-z0-9%+/=_-]{20,})"),
    _rule(
        "authorization",
        "authorization",
        r"authorization\\?[\"']?\s*[:=,]\s*\\?[\"']?(?>(?:(?:bearer|basic|token|digest|apikey|key|negotiate|aws4-hmac-sha256)\s+)?)"
        + _NOT
        + r"(?P<v>[^\s\"'\\,;`)}\]]{6,}(?<!\.\.\.))",
        re.IGNORECASE,
    ),
    _rule("bearer", "bearer", r"\bbearer\s+(?=[\w~+/.=-]*\d)(?P<v>[A-Za-z0-9_~+/.=-]{16,})", re.IGNORECASE),
    _rule("cookie", "cookie:", r"\b(?:set-)?cookie:\s*(?P<v>[^\r\n\"'\\]{8,})", re.IGNORECASE),
    _rule("url-password", "://", r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@\"'<>\[]{0,64}:(?![<$\{%*\[])(?P<v>[^\s/@\"'<>]{1,256})@"),
    _rule("url-token", "://", r"\bhttps?://(?=[^\s/@]*\d)(?P<v>[A-Za-z0-9_-]{20,})@"),
    _rule("curl-user", "curl", r"\bcurl\b[^\n]*?\s(?:-u|--user)[ =]?[\"']?[^\s:\"']{1,64}:(?![$<{])(?P<v>[^\s\"']+)"),
    _rule("netrc", "login", r"\blogin\s+\S{1,64}\s+password\s+(?P<v>\S+)"),
    # KEY="value", "key": "value", key: 'value', also inside a JSON string, where quotes carry a backslash
    _rule(
        "assignment",
        _KEYWORDS,
        r"(?<![A-Za-z])"
        + _NAMES
        + r"\\?[\"']?\s*(?::=|=>|[:=])\s*(?P<q>\\?[\"'`])"
        + _NOT
        + r"(?P<v>(?:(?!(?P=q))[^\s\\\"'`]){6,512})(?P=q)",
        re.IGNORECASE,
    ),
    # DATABASE_PASSWORD=value: a shell or .env line
    _rule(
        "env",
        _KEYWORDS,
        r"\b[A-Z][A-Z0-9_]*?(?<![A-Z])"
        r"(?:PASS(?:WORD|WD|PHRASE)?|PWD|SECRET|TOKEN|CREDENTIALS?|(?:API|ACCESS|ACCOUNT|AUTH|ENCRYPTION|MASTER|PRIVATE|SECRET|SIGNING)_?KEY)"
        r"(?:_BASE)?=" + _NOT + r"(?P<v>[^\s\"'`$;&|<>()\\,]{6,})",
    ),
    _rule(
        "env",
        _KEYWORDS,
        r"\b(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|SECRET_KEY(?:_BASE)?|ACCESS_TOKEN)=" + _NOT + r"(?P<v>[^\s\"'`$;&|<>()\\,]{6,})",
    ),
    # --password value, --token=value
    _rule(
        "option",
        _KEYWORDS,
        r"(?<!\S)--?(?:[a-z]+-){0,3}(?:password|passwd|passphrase|secret|token|api-?key|access-?key|secret-?key|client-secret)[ =][\"']?"
        + _NOT
        + r"(?!-)(?P<v>(?=[^\s\"']*[\d!@#%^*+=/])[^\s\"'\\]{6,})",
    ),
    # password=value and token: value without quotes, in connection strings, forms and YAML: only what looks like no identifier
    _rule(
        "assignment",
        _KEYWORDS,
        r"(?<![A-Za-z0-9])" + _NAMES + r"(?:=|:[ \t]+)" + _NOT
        + r"(?P<v>(?=[^\s\"',;&]*\d)(?=[^\s\"',;&]*[A-Za-z])(?![A-Za-z_]\w*[.(\[])[^\s\"'`,;&()\[\]{}<>\\]{8,})(?=[\s\"',;&\\]|\Z)",
        re.IGNORECASE,
    ),
)  # fmt: skip

# A field of this name is a secret whatever its value looks like.
FIELD = re.compile(
    r"(?i)\A(?:x[-_])?(?:[a-z0-9]+[-_])*?" + _NAMES + r"\Z|\A(?:proxy-)?authorization\Z|\A(?:set-)?cookie\Z|\Axapikey\Z"
)
# What a session is full of and what cannot hold a secret: ids, times, words, versions and model names.
_PLAIN = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z|(?:msg|req|toolu|call|resp)_[0-9A-Za-z]{16,48}"
    r"|[A-Za-z]{1,24}(?:[ _.-][A-Za-z0-9]{1,9}){0,3}|[\d.:]{1,24}"
).fullmatch
_CACHED_CHARS_MAX = 256  # short strings repeat in every record of a session
_KNOWN_MAX = 50_000
_known: dict[str, str] = {}
_secret_fields: dict[str, bool] = {}


def _replaced(rule: Rule, match: re.Match[str]) -> str:
    mark = f"[redacted:{rule.name}]"
    if "v" not in rule.pattern.groupindex:
        return mark
    start, end = match.span("v")
    whole = match.group()
    return f"{whole[: start - match.start()]}{mark}{whole[end - match.start() :]}"


def redact_text(text: str) -> str:
    """The same text with every secret we know how to recognise replaced; ordinary text comes back unchanged."""
    lowered = text.lower()
    for rule in RULES:
        if any(hint in lowered for hint in rule.hints):
            text = rule.pattern.sub(lambda match, rule=rule: _replaced(rule, match), text)  # type: ignore[misc]
    return text


def _learn(text: str) -> str:
    """Redact a string and remember it, if it is short."""
    if len(text) > _CACHED_CHARS_MAX:
        return redact_text(text)
    if len(_known) >= _KNOWN_MAX:
        _known.clear()
    _known[text] = clean = text if _PLAIN(text) else redact_text(text)
    return clean


def is_plain(text: str) -> bool:
    """Whether a string leaves as it is."""
    return len(text) < TEXT_CHARS_MIN or (_known.get(text) or _learn(text)) == text


def _is_secret_field(name: str) -> bool:
    if (known := _secret_fields.get(name)) is None:
        if len(_secret_fields) >= _KNOWN_MAX:
            _secret_fields.clear()
        known = _secret_fields[name] = FIELD.match(name) is not None
    return known


def redact(value: Any) -> Any:
    """A JSON value with secrets replaced in strings, in long keys, and in fields whose name says that they are secret.

    Objects and lists are changed in place: copying them costs more than looking at them.
    """
    if type(value) is dict:
        _object(cast("dict[str, Any]", value), 0)
    elif type(value) is list:
        _list(value, 0)
    elif type(value) is str:
        return redact_text(value)
    return value


def _object(fields: dict[str, Any], depth: int) -> None:
    for key, inner in fields.items():
        if type(inner) is str:
            if (secret := _secret_fields.get(key)) is None:
                secret = _is_secret_field(key)
            if secret and inner and not inner.startswith("[redacted:"):
                fields[key] = "[redacted:field]"
            elif len(inner) >= TEXT_CHARS_MIN and (clean := _known.get(inner) or _learn(inner)) != inner:
                fields[key] = clean
        elif type(inner) is dict or type(inner) is list:
            fields[key] = _inner(inner, depth)
    for key in [key for key in fields if len(key) >= KEY_CHARS_MIN]:
        if (clean := _known.get(key) or _learn(key)) != key:
            fields[clean] = fields.pop(key)


def _inner(value: Any, depth: int) -> Any:
    """An object or list inside another."""
    if depth >= DEPTH_MAX:
        return "[redacted:too-deep]"
    if type(value) is dict:
        _object(cast("dict[str, Any]", value), depth + 1)
    else:
        _list(value, depth + 1)
    return value


def _list(items: list[Any], depth: int) -> None:
    for index, inner in enumerate(items):
        if type(inner) is str:
            if len(inner) >= TEXT_CHARS_MIN:
                items[index] = _known.get(inner) or _learn(inner)
        elif type(inner) is dict or type(inner) is list:
            items[index] = _inner(inner, depth)
