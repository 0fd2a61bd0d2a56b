"""Our own rules for what the library of detectors (detectors.py) does not know, each with the reason why it is here.

Where a rule has a group `v`, only that part is replaced, so that one still sees which header or variable it was.  Adding a
rule needs a line here and one in tests/cli/test_redact.py.  Formats: the vendors' documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec


class Part(msgspec.Struct, frozen=True):
    """A pattern, the group of it that is replaced (0: all), what has the last word on it, and the longest line it is for."""

    pattern: re.Pattern[str]
    group: int | str = 0
    fits: Callable[[str], bool] | None = None
    chars_max: int = 0


class Rule(msgspec.Struct, frozen=True):
    """Literal `hints`, one of which every match contains; in lower case where the case does not matter.

    `needs` must be found too, in the text in lower case: for rules whose hints are ordinary words.  `parts` are asked for
    then.  `lines`: how many lines after that of a hint a match may reach; `whole`: any number.  `why`: why the library is
    not enough (our own rules).
    """

    name: str
    hints: tuple[str, ...]
    parts: Callable[[], tuple[Part, ...]]
    needs: re.Pattern[str] | None = None
    lines: int = 2
    whole: bool = False
    why: str = ""


_LINE_START = r"(?:\b|(?<=\\[nrt]))"  # a newline inside a JSON string is a backslash and a letter
_UNKNOWN = "a format that the library does not know"


def _rule(name: str, hints: str, pattern: str, flags: int = 0, why: str = _UNKNOWN) -> Rule:
    if pattern.startswith(r"\b"):
        pattern = _LINE_START + pattern[2:]
    compiled = re.compile(pattern, flags)
    parts = (Part(compiled, "v" if "v" in compiled.groupindex else 0),)
    return Rule(name, tuple(hints.split()), lambda: parts, whole=bool(flags & re.DOTALL), why=why)


NAMES = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|(?:api|access|account|auth|encryption|master|private"
    r"|shared[_-]?access|signing|webhook)[_-]?(?:key|secret|token)|client[_-]?secret|credentials?|(?:bearer|refresh|session|id|bot"
    r"|personal[_-]?access|oauth|jwt|csrf|deploy)[_-]?token|token)"
)
_KEYWORDS = "pass pwd secret key token credential"
# What stands where a secret would stand, but is none: references, placeholders, types, switches, numbers of tokens.
NOT = (
    r"(?!\$|<|\{|%|\*{3}|\.{3}|\[redacted|(?:true|false|none|null|nil|undefined|str|string|bytes|int|optional|required"
    r"|os\.|process\.|env\.|self\.|this\.|config\.|settings\.|secrets\.)|\d{1,7}(?![\w.]))"
)

OWN: tuple[Rule, ...] = (
    _rule(
        "private-key",
        "private",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|\Z)",
        re.DOTALL,
        why="the library marks five kinds; this is every kind, encrypted ones too",
    ),
    _rule("putty-key", "private-lines", r"(?<=Private-Lines: )\d+\s[A-Za-z0-9+/=\s]+", why="the private part where the file's head was cut off"),
    _rule("age-key", "age-secret-key-", r"\bAGE-SECRET-KEY-1[0-9A-Z]{50,}"),
    _rule("crewkit-key", "ck_", r"\bck_[0-9a-f]{32}_[A-Za-z0-9_-]{20,}"),
    _rule("anthropic-key", "sk-ant-", r"\bsk-ant-[A-Za-z0-9_-]{12,}"),
    _rule("openrouter-key", "sk-or-", r"\bsk-or-[A-Za-z0-9_-]{20,}"),
    _rule("openai-key", "sk-", r"\bsk-(?:proj-|svcacct-|admin-|None-)?(?=[A-Za-z0-9_-]*\d)(?=[A-Za-z0-9_-]*[A-Z])[A-Za-z0-9_-]{20,}", why="keys with a dash or underscore near their middle, and such without the library's marker"),
    _rule("github-pat", "github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{22,255}"),
    _rule("slack-token", "xoxa- xoxb- xoxp- xoxo- xoxr- xoxs- xoxe xapp-", r"\b(?:xox[abposre]|xapp)[-.][A-Za-z0-9.-]{10,}", why="app tokens and refreshed ones, which carry no numbers"),
    _rule("slack-webhook", "hooks.slack.com", r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/_-]{20,}", why="workflows and triggers"),
    _rule("discord-webhook", "/api/webhooks/", r"https://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/\d+/[A-Za-z0-9_-]{40,}"),
    _rule("teams-webhook", "webhook.office.com", r"https://[\w.-]+\.webhook\.office\.com/webhookb2/[\w@/-]{40,}"),
    _rule("stripe-key", "k_live_ k_test_ whsec_", r"\b(?:[srp]k_(?:live|test)_|whsec_)[0-9A-Za-z]{16,}", why="test keys and webhook secrets"),
    _rule("google-api-key", "aiza", r"\bAIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"),
    _rule("google-oauth", "ya29. gocspx-", r"\b(?:ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{20,})"),
    _rule("npm-token", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b", why="outside of an .npmrc line"),
    _rule("docker-token", "dckr_pat_ dckr_oat_", r"\bdckr_[po]at_[A-Za-z0-9_-]{20,}"),
    _rule("mailgun-key", "key-", r"\bkey-[0-9a-f]{32}\b"),
    _rule("square-token", "sq0 eaaa", r"\b(?:sq0[a-z]{3}-[0-9A-Za-z_-]{22,43}|EAAA[0-9A-Za-z_-]{60})\b", why="access tokens and those of other kinds than sq0csp"),
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
    _rule("azure-key", "accountkey= sharedaccesskey=", r"(?:AccountKey|SharedAccessKey)=(?P<v>[A-Za-z0-9+/]{40,}={0,2})", why="shared access keys"),
    _rule("signed-url", "signature= sig=", r"[?&](?:X-Amz-Signature|X-Goog-Signature|sig|Signature)=(?P<v>[A-Za-z0-9%+/=_-]{20,})"),
    _rule(
        "authorization",
        "authorization",
        r"authorization\\?[\"']?\s*[:=,]\s*\\?[\"']?(?>(?:(?:bearer|basic|token|digest|apikey|key|negotiate|aws4-hmac-sha256)\s+)?)"
        + NOT
        + r"(?P<v>[^\s\"'\\,;`)}\]]{6,}(?<!\.\.\.))",
        re.IGNORECASE,
        why="the library knows no headers",
    ),
    _rule("bearer", "bearer", r"\bbearer\s+(?=[\w~+/.=-]*\d)(?P<v>[A-Za-z0-9_~+/.=-]{16,})", re.IGNORECASE, why="the library knows no headers"),
    _rule("cookie", "cookie:", r"\b(?:set-)?cookie:\s*(?P<v>[^\r\n\"'\\]{8,})", re.IGNORECASE, why="the library knows no headers"),
    _rule("url-password", "://", r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@\"'<>\[]{0,64}:(?![<$\{%*\[])(?P<v>[^\s/@\"'<>]{1,256})@", why="connection strings without a user, and passwords with punctuation"),
    _rule("url-token", "://", r"\bhttps?://(?=[^\s/@]*\d)(?P<v>[A-Za-z0-9_-]{20,})@", why="a token in place of user and password"),
    _rule("curl-user", "curl", r"\bcurl\b[^\n]*?\s(?:-u|--user)[ =]?[\"']?[^\s:\"']{1,64}:(?![$<{])(?P<v>[^\s\"']+)", why="the library knows no command lines"),
    _rule("netrc", "login", r"\blogin\s+\S{1,64}\s+password\s+(?P<v>\S+)", why="the library knows no netrc lines"),
    _rule("command-password", "mysql mariadb", r"\b(?:mysql|mariadb)(?:[_-]?\w+)?\b[^\n|;&]{0,300}?\s-p[\"']?+" + NOT + r"(?P<v>[^\s\"'\\-][^\s\"'\\]{2,})", why="the library knows no command lines"),
    _rule("command-password", "sshpass", r"\bsshpass\s+(?:-[ev]\s+)*-p\s*+[\"']?+" + NOT + r"(?P<v>[^\s\"'\\]{3,})", why="the library knows no command lines"),
    _rule("command-password", "login", r"\b(?:docker|podman|nerdctl|helm|oras|skopeo|az|oc|cf)\b[^\n|;&]{0,300}?\slogin\b[^\n|;&]{0,300}?\s-p[ =]?+[\"']?+" + NOT + r"(?P<v>[^\s\"'\\-][^\s\"'\\]{2,})", why="the library knows no command lines"),
    _rule("command-password", "redis-cli", r"\bredis-cli\b[^\n|;&]{0,300}?\s(?:-a|--pass)[ =][\"']?+" + NOT + r"(?P<v>[^\s\"'\\-][^\s\"'\\]{2,})", why="the library knows no command lines"),
    _rule("docker-auth", '"auth', r"\"auth\\?\"\s*:\s*\\?\"(?P<v>(?=[A-Za-z0-9+/]*[\d+/=])[A-Za-z0-9+/]{10,}={0,2})\\?\"", why="user and password of a registry, in Docker's config.json"),
    # KEY="value", "key": "value", key: 'value', also inside a JSON string, where quotes carry a backslash
    _rule(
        "assignment",
        _KEYWORDS,
        r"(?<![A-Za-z])"
        + NAMES
        + r"\\?[\"']?\s*(?::=|=>|[:=])\s*(?P<q>\\?[\"'`])"
        + NOT
        + r"(?P<v>(?:(?!(?P=q))[^\s\\\"'`]){6,512})(?P=q)",
        re.IGNORECASE,
        why="tokens and credentials, quotes inside JSON strings, and values without quotes",
    ),
    # DATABASE_PASSWORD=value: a shell or .env line
    _rule(
        "env",
        _KEYWORDS,
        r"\b[A-Z][A-Z0-9_]*?(?<![A-Z])"
        r"(?:PASS(?:WORD|WD|PHRASE)?|PWD|SECRET|TOKEN|CREDENTIALS?|(?:API|ACCESS|ACCOUNT|AUTH|ENCRYPTION|MASTER|PRIVATE|SECRET|SIGNING)_?KEY)"
        r"(?:_BASE)?=" + NOT + r"(?P<v>[^\s\"'`$;&|<>()\\,]{6,})",
        why="values without quotes",
    ),
    _rule(
        "env",
        _KEYWORDS,
        r"\b(?:[A-Z]{0,16}PASSWORD|PASSWD|SSHPASS|SECRET|TOKEN|API_?KEY|SECRET_KEY(?:_BASE)?|ACCESS_TOKEN)=" + NOT + r"(?P<v>[^\s\"'`$;&|<>()\\,]{6,})",
        why="values without quotes",
    ),
    # --password value, --token=value
    _rule(
        "option",
        _KEYWORDS,
        r"(?<!\S)--?(?:[a-z]+-){0,3}(?:password|passwd|passphrase|secret|token|api-?key|access-?key|secret-?key|client-secret)[ =][\"']?"
        + NOT
        + r"(?!-)(?P<v>(?=[^\s\"']*[\d!@#%^*+=/])[^\s\"'\\]{6,})",
        why="the library knows no command lines",
    ),
    # password=value and token: value without quotes, in connection strings, forms and YAML: only what looks like no identifier
    _rule(
        "assignment",
        _KEYWORDS,
        r"(?<![A-Za-z0-9])" + NAMES + r"(?:=|:[ \t]+)" + NOT
        + r"(?P<v>(?=[^\s\"',;&]*\d)(?=[^\s\"',;&]*[A-Za-z])(?![A-Za-z_]\w*[.(\[])[^\s\"'`,;&()\[\]{}<>\\]{8,})(?=[\s\"',;&\\]|\Z)",
        re.IGNORECASE,
        why="tokens and credentials, quotes inside JSON strings, and values without quotes",
    ),
)  # fmt: skip
