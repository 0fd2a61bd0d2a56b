"""The page at /docs: every operation of the OpenAPI document as plain HTML, without scripts and without other hosts.

A page that loads its viewer from somebody else's network shows nothing in a closed one, and tells that network who reads it.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

METHODS = ("get", "post", "put", "patch", "delete")
TITLE = "crewkit API"
REFERENCES_MAX = 8  # steps from one reference to the next before we stop following

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; text-transform: capitalize; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; } code, pre { font: 13px/1.5 ui-monospace, monospace; }
pre { background: var(--soft); border-radius: 6px; overflow: auto; padding: .8rem; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
.method { display: inline-block; font-weight: 600; min-width: 4.5rem; } .what { opacity: .75; }
"""


class PlainPage(OpenAPIRenderPlugin):
    """Renders the document as one page; open an operation to see its parameters, body and answers."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page."""
        return page(openapi_schema, self.get_openapi_json_route(request)).encode()


def page(document: dict[str, Any], document_path: str) -> str:
    """The whole HTML page of an OpenAPI document that is also served at `document_path`."""
    groups: dict[str, list[str]] = {}
    for path, operations in sorted(document.get("paths", {}).items()):
        for method in METHODS:
            if (operation := operations.get(method)) is not None:
                tag = (operation.get("tags") or ["other"])[0]
                groups.setdefault(tag, []).append(_operation(document, path, method, operation))
    info = document.get("info", {})
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{TITLE}</title><link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>',
        f"<h1>{TITLE} <small>{escape(str(info.get('version', '')))}</small></h1>",
        f"<p>{escape(str(info.get('description', '')))}</p>",
        f'<p>For programs: <a href="{escape(document_path)}">the OpenAPI document</a>.</p>',
        "<p>Keys travel as <code>X-API-Key</code> or <code>Authorization: Bearer</code>.</p>",
    ]
    for tag, operations in sorted(groups.items()):
        parts += [f'<h2 id="{escape(tag)}">{escape(tag)}</h2>', *operations]
    return "".join([*parts, "</body></html>"])


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [
        f'<details><summary><span class="method">{method.upper()}</span> <code>{escape(path)}</code>',
        f' <span class="what">{escape(operation.get("summary") or "")}</span></summary>',
        f"<p>{escape(operation.get('description') or '')}</p>",
    ]
    if parameters := operation.get("parameters"):
        parts.append("<table><tr><th>Parameter<th>In<th>Type<th>Meaning</tr>")
        parts += [_parameter(_resolved(document, one)) for one in parameters]
        parts.append("</table>")
    for media_type, content in (operation.get("requestBody") or {}).get("content", {}).items():
        parts += [f"<p>Body, {escape(media_type)}:</p>", _shape(document, content.get("schema"))]
    for status, answer in sorted(operation.get("responses", {}).items()):
        parts.append(f"<p>{escape(str(status))}: {escape(answer.get('description') or '')}</p>")
        for content in answer.get("content", {}).values():
            parts.append(_shape(document, content.get("schema")))
    return "".join([*parts, "</details>"])


def _parameter(one: dict[str, Any]) -> str:
    schema = one.get("schema") or {}
    kind = schema.get("type") or " or ".join(part.get("type", "?") for part in schema.get("oneOf", []))
    need = " (required)" if one.get("required") else ""
    meaning = escape(one.get("description") or schema.get("description") or "")
    name = escape(str(one.get("name")))
    return f"<tr><td><code>{name}</code>{need}<td>{escape(str(one.get('in')))}<td>{escape(str(kind))}<td>{meaning}</tr>"


def _shape(document: dict[str, Any], schema: Any) -> str:
    if not schema:
        return ""
    return f"<pre>{escape(json.dumps(_resolved(document, schema), indent=2, ensure_ascii=False))}</pre>"


def _resolved(document: dict[str, Any], node: Any) -> Any:
    """What a reference names, one level deep: what it contains keeps its references, so that types may contain themselves."""
    for _ in range(REFERENCES_MAX):
        if not isinstance(node, dict) or not isinstance(reference := node.get("$ref"), str):
            break
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node.get(step, {})
    return node
