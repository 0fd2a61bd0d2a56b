"""The rule set of detect-secrets (Apache-2.0), a library that others keep up to date, in the form our redactor needs.

The patterns are the library's own.  What stands here per detector is `hints`, literal pieces one of which every match
contains (so that its patterns, and the library itself, are touched only for text that could match), and what turns finding
into replacing.  tests/cli/test_redact.py fails when the library has a detector that is neither used nor left out by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from cli.capture.rules import NOT, Part, Rule

_NAMED = r"[_-]?(?:api)?[_-]?(?:key|pw|pass|token)"
_LINE_CHARS_MAX = 20_000  # the keyword patterns look back and forth; longer lines are left to our own rules
_KEYWORD_CHARS_MIN = 6
_placeholder = re.compile(rf"(?!{NOT})", re.IGNORECASE).match


class Use(msgspec.Struct, frozen=True):
    """How one detector is used.

    `inner`: the secret is what a group of the pattern captures; else it is all of the match.  `before` and `after` are
    patterns put around the library's, where it finds the place of a secret but not its whole extent, or parts of a longer
    word.  `fits` has the last word on a value.  `needs` and `whole` are as in `Rule`.
    """

    hints: tuple[str, ...]
    inner: bool = False
    before: str = ""
    after: str = ""
    fits: Callable[[str], bool] | None = None
    needs: str = ""
    whole: bool = False


def _alone(*hints: str, after: str = r"(?![A-Za-z0-9_+/=-])", needs: str = "") -> Use:
    """A pattern so general that it would also match inside hashes, ids and base64."""
    return Use(hints, needs=needs, before=r"(?:(?<![A-Za-z0-9_+/=.-])|(?<=\\[nrt]))", after=after)


def _has_digit(value: str) -> bool:
    return any(char.isdigit() for char in value)


USED: dict[str, Use] = {
    "ArtifactoryDetector": Use(("AKC", "AP"), fits=_has_digit),  # without a digit it is a word in capitals
    "AWSKeyDetector": Use(
        ("A3T", "ABIA", "ACCA", "AKIA", "ASIA", "aws"), inner=True, before=r"(?:(?<![A-Za-z0-9+/=])|(?<=\\[nrt]))",
        after=r"(?![A-Za-z0-9+/=])",
    ),
    "AzureStorageKeyDetector": Use(("AccountKey=",)),
    "BasicAuthDetector": Use(("://",), inner=True, fits=lambda value: value[0] not in "<%*{$"),
    "CloudantDetector": Use(("cl",), needs=rf"cl(?:oudant|ou)?{_NAMED}|cloudant\.com", inner=True),
    "DiscordBotTokenDetector": _alone("M", "N", "O", needs=r"\.[a-z\d_-]{6}\.[a-z\d_-]{27}", after=r"[A-Za-z\d_-]{0,11}(?![A-Za-z0-9_-])"),
    "GitHubTokenDetector": Use(("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), after=r"[A-Za-z0-9_]*"),
    "GitLabTokenDetector": Use(("gl", "GR1348941"), after=r"[A-Za-z0-9_.-]*"),
    "IbmCloudIamDetector": Use(("key", "pwd", "pass", "token"), needs=r"[\w-]{44}", inner=True),
    "IbmCosHmacDetector": Use(("secret",), inner=True),
    "JwtTokenDetector": Use(("eyJ",), after=r"[A-Za-z0-9_.+/=-]*"),  # the library's match ends before the signature
    "MailchimpDetector": _alone("-us"),
    "NpmDetector": Use((":_authToken",), inner=True),
    "OpenAIDetector": Use(("T3BlbkFJ",), after=r"[A-Za-z0-9_-]*"),
    # the library marks the first line; the key itself stands below it, perhaps cut off before its end
    "PrivateKeyDetector": Use(
        ("PRIVATE KEY", "PuTTY-User-Key-File"), before=r"(?:-----)?",
        after=r"(?:-----.*?(?:-----END[^\n]*?-----|\Z)|: .*?(?:Private-MAC: [0-9a-f]+|\Z))", whole=True,
    ),
    "PypiTokenDetector": Use(("pypi-",)),
    "SendGridDetector": Use(("SG.",), after=r"[A-Za-z0-9_-]*"),
    "SlackDetector": Use(("xox", "hooks.slack.com"), after=r"[A-Za-z0-9-]*"),
    "SoftlayerDetector": Use(("softlayer", "sl"), needs=rf"(?:softlayer|sl){_NAMED}|softlayer\.com", inner=True),
    "SquareOAuthDetector": Use(("sq0csp-",)),
    "StripeDetector": Use(("k_live_",), after=r"[0-9A-Za-z]*"),
    "TelegramBotTokenDetector": _alone(":", needs=r"\d:[\w-]{35}", after=r"(?![A-Za-z0-9_-])"),
    "TwilioKeyDetector": _alone("AC", "SK"),
    "KeywordDetector": Use(("pass", "pwd", "secret", "key", "contrase"), inner=True),
}  # fmt: skip

LEFT_OUT = {
    "Base64HighEntropyString": "guesses from the look of a string: ids, hashes and commits are what a session is made of",
    "HexHighEntropyString": "guesses from the look of a string: ids, hashes and commits are what a session is made of",
    "IPPublicDetector": "an address is no secret, and logs without addresses explain little",
}


def _fits_keyword(value: str) -> bool:
    """Whether what is assigned to a telling name is a secret: no sentence, reference, template or number of tokens."""
    heuristic = _heuristic()
    return (
        len(value) >= _KEYWORD_CHARS_MIN
        and not any(char.isspace() for char in value)
        and _placeholder(value) is None
        and not heuristic.is_templated_secret(value)
        and not heuristic.is_prefixed_with_dollar_sign(value)
        and not heuristic.is_not_alphanumeric_string(value)
    )


@lru_cache(maxsize=1)
def _heuristic() -> Any:
    from detect_secrets.filters import heuristic  # noqa: PLC0415 - the library takes long to load

    return heuristic


@lru_cache(maxsize=1)
def found_in_library() -> dict[str, Any]:
    """The library's detector classes by name."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class  # noqa: PLC0415 - as above

    kinds: dict[str, Any] = get_mapping_from_secret_type_to_class()
    return {kind.__name__: kind for kind in kinds.values()}


@lru_cache(maxsize=64)
def parts_of(name: str) -> tuple[Part, ...]:
    """A detector's patterns, ready to replace by."""
    use, detector = USED[name], found_in_library()[name]
    if name == "KeywordDetector":
        from detect_secrets.plugins import keyword  # noqa: PLC0415 - as above

        groups: dict[re.Pattern[str], int] = keyword.QUOTES_REQUIRED_DENYLIST_REGEX_TO_GROUP
        return tuple(Part(pattern, group, _fits_keyword, _LINE_CHARS_MAX) for pattern, group in groups.items())
    parts: list[Part] = []
    for pattern in detector.denylist:
        whole = re.compile(f"{use.before}(?:{pattern.pattern}){use.after}", pattern.flags | re.DOTALL * use.whole)
        parts.append(Part(whole, 1 if use.inner and pattern.groups else 0, use.fits))
    return tuple(parts)


def _rule(name: str, use: Use) -> Rule:
    needs = re.compile(use.needs) if use.needs else None
    lines = 0 if name == "KeywordDetector" else 2
    return Rule(name, use.hints, lambda: parts_of(name), needs=needs, lines=lines, whole=use.whole)


def mark_of(name: str) -> str:
    """What a replaced secret is called: the library's own name for its kind, as a slug."""
    return re.sub(r"[^a-z0-9]+", "-", str(found_in_library()[name].secret_type).lower()).strip("-")


DETECTORS: tuple[Rule, ...] = tuple(_rule(name, use) for name, use in USED.items())
