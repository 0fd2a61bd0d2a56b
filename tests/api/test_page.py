"""The page at /docs, from documents it may meet."""

from __future__ import annotations

from api.page import page


def test_what_a_document_says_is_text_and_never_markup() -> None:
    evil = "<script>alert(1)</script>"
    operation = {
        "summary": evil,
        "description": evil,
        "tags": [evil],
        "parameters": [{"name": evil, "in": "query", "required": True, "description": evil, "schema": {"type": evil}}],
        "requestBody": {"content": {evil: {"schema": {"title": evil}}}},
        "responses": {"200": {"description": evil}},
    }
    shown = page({"info": {"description": evil, "version": evil}, "paths": {f"/{evil}": {"get": operation}}}, evil)
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


def test_types_that_contain_themselves_and_references_to_nothing_are_shown_as_they_are() -> None:
    node = {"properties": {"children": {"items": {"$ref": "#/components/schemas/Node"}}}}
    circle = {"$ref": "#/components/schemas/Circle"}
    content = [{"$ref": f"#/components/schemas/{name}"} for name in ("Node", "Circle", "Missing")]
    document = {
        "components": {"schemas": {"Node": node, "Circle": circle}},
        "paths": {
            "/": {
                "get": {"responses": {str(n): {"content": {"a/b": {"schema": one}}} for n, one in enumerate(content)}}
            }
        },
    }
    assert "children" in page(document, "/x")
