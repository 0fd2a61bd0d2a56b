"""Secrets are replaced before anything leaves: `[redacted:<rule>]`.

Two stages: literal hints first, at the speed of a substring search; then the patterns of the rules whose hint was found,
and of long text only on the lines around the hint.  The rules are a library's (detectors.py) and, for what it lacks, our
own (rules.py).  docs/adr/0007 has the reasons.
"""

from __future__ import annotations

import re
from typing import Any, cast

from cli.capture.detectors import DETECTORS, mark_of
from cli.capture.rules import NAMES, OWN, Part, Rule

DEPTH_MAX = 64
KEY_CHARS_MIN = 12
TEXT_CHARS_MIN = 6
_WINDOWS_FROM_CHARS = 2_000  # longer text is looked at line by line

# A field of this name is a secret whatever its value looks like.
FIELD = re.compile(
    r"(?i)\A(?:x[-_])?(?:[a-z0-9]+[-_])*?" + NAMES + r"\Z|\A(?:proxy-)?authorization\Z|\A(?:set-)?cookie\Z|\Axapikey\Z"
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


class _Text:
    """A text under redaction, with its lower-case form and the lines around hints, until it changes."""

    def __init__(self, text: str) -> None:
        self._set(text)

    def _set(self, text: str) -> None:
        self.text = text
        self.lowered = text.lower()
        self._windows: dict[tuple[int, tuple[str, ...]], list[tuple[int, int]]] = {}

    def apply(self, rule: Rule, mark: str) -> None:
        """Replace what the rule matches."""
        parts = rule.parts()
        windowed = not rule.whole and len(self.text) > _WINDOWS_FROM_CHARS and len(self.text) == len(self.lowered)
        for part in parts:
            if windowed:
                pieces, at = list[str](), 0
                for start, end in self._around(rule.hints, rule.lines):
                    pieces += (self.text[at:start], _replace(self.text[start:end], part, mark))
                    at = end
                pieces.append(self.text[at:])
                text = "".join(pieces)
            else:
                text = _replace(self.text, part, mark)
            if text != self.text:
                self._set(text)
                windowed = windowed and len(text) == len(self.lowered)

    def _around(self, hints: tuple[str, ...], lines: int) -> list[tuple[int, int]]:
        """The lines that contain a hint and those after them: spans in order, none touching another."""
        if (known := self._windows.get((lines, hints))) is not None:
            return known
        text, spans = self.text, list[tuple[int, int]]()
        for hint in hints:
            place = self.lowered if hint.islower() else text
            at = place.find(hint)
            while at >= 0:
                end = line_end = _line_end(text, at)
                for _ in range(lines):
                    end = _line_end(text, end + 1)
                spans.append((text.rfind("\n", 0, at) + 1, end))
                at = place.find(hint, line_end)
        merged: list[tuple[int, int]] = []
        for start, end in sorted(spans):
            if merged and start <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        self._windows[lines, hints] = merged
        return merged


def _line_end(text: str, at: int) -> int:
    found = text.find("\n", at)
    return found if found >= 0 else len(text)


def _replace(text: str, part: Part, mark: str) -> str:
    if part.chars_max:  # a pattern made for single lines with quotes
        if "\n" in text:
            return "\n".join([_replace(line, part, mark) for line in text.split("\n")])
        if len(text) > part.chars_max or not ("'" in text or '"' in text or "`" in text):
            return text
    return part.pattern.sub(lambda match: _replaced(match, part, mark), text)


def _replaced(match: re.Match[str], part: Part, mark: str) -> str:
    whole, value = match.group(), match.group(part.group)
    if not value or value.startswith("[redacted:") or (part.fits and not part.fits(value)):
        return whole
    start, end = match.span(part.group)
    if part.group == 0:  # some patterns of the library take what stands around a secret
        start += len(whole) - len(whole.lstrip(_AROUND))
        end -= len(whole) - len(whole.rstrip(_AROUND))
    return f"{whole[: start - match.start()]}{mark}{whole[end - match.start() :]}"


_AROUND = ' \t\r\n=:"'
_OWN_MARKS = {rule.name: f"[redacted:{rule.name}]" for rule in OWN}


def _hinted(rule: Rule, text: str, lowered: str) -> bool:
    for hint in rule.hints:
        if hint in (lowered if hint.islower() else text):
            return rule.needs is None or rule.needs.search(lowered) is not None
    return False


def redact_text(text: str) -> str:
    """The same text with every secret we know how to recognise replaced; ordinary text comes back unchanged."""
    held = _Text(text)
    for rule in DETECTORS:
        if _hinted(rule, held.text, held.lowered):
            held.apply(rule, f"[redacted:{mark_of(rule.name)}]")
    for rule in OWN:
        if _hinted(rule, held.text, held.lowered):
            held.apply(rule, _OWN_MARKS[rule.name])
    return held.text


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
