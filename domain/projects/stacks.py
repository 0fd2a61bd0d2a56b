"""Framework stacks: reference data, and recognising them by file names and manifests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

FILES_MAX = 5_000  # file names looked at
MANIFESTS_MAX = 100
MANIFEST_CHARS_MAX = 200_000
DEPENDENCIES_MAX = 5_000  # of one manifest
DEPTH_MAX = 4  # folders below the root in which a sign still counts

# Other people's code: what lies there says nothing about the project.
_FOREIGN = frozenset(
    {"node_modules", "vendor", "third_party", ".git", ".venv", "venv", "site-packages", "target", "dist", "build"}
)


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """A technology.  Any of `files` (patterns of paths) or `dependencies` (names in manifests) is a sign of it.

    `needs_all` names dependencies that must all be there.  `covers` are more general stacks it makes superfluous.
    """

    slug: str
    name: str
    language: str
    files: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    needs_all: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()


_ALL = (
    Stack(
        slug="rails-hotwire",
        name="Rails + Hotwire",
        language="Ruby",
        needs_all=("gem:rails", "gem:turbo-rails"),
        covers=("rails", "ruby"),
    ),
    Stack(
        slug="rails",
        name="Rails",
        language="Ruby",
        files=("bin/rails", "config/application.rb"),
        dependencies=("gem:rails",),
        covers=("ruby",),
    ),
    Stack(slug="ruby", name="Ruby", language="Ruby", files=("Gemfile", "*.gemspec", "Rakefile")),
    Stack(
        slug="nextjs",
        name="Next.js",
        language="TypeScript/JavaScript",
        files=("next.config.js", "next.config.mjs", "next.config.ts"),
        dependencies=("npm:next",),
        covers=("react", "typescript-javascript"),
    ),
    Stack(
        slug="nuxt",
        name="Nuxt",
        language="TypeScript/JavaScript",
        files=("nuxt.config.js", "nuxt.config.ts"),
        dependencies=("npm:nuxt",),
        covers=("vue", "typescript-javascript"),
    ),
    Stack(
        slug="sveltekit",
        name="SvelteKit",
        language="TypeScript/JavaScript",
        dependencies=("npm:@sveltejs/kit",),
        covers=("typescript-javascript",),
    ),
    Stack(
        slug="angular",
        name="Angular",
        language="TypeScript/JavaScript",
        files=("angular.json",),
        dependencies=("npm:@angular/core",),
        covers=("typescript-javascript",),
    ),
    Stack(
        slug="nestjs",
        name="NestJS",
        language="TypeScript/JavaScript",
        files=("nest-cli.json",),
        dependencies=("npm:@nestjs/core",),
        covers=("typescript-javascript",),
    ),
    Stack(
        slug="react",
        name="React",
        language="TypeScript/JavaScript",
        dependencies=("npm:react",),
        covers=("typescript-javascript",),
    ),
    Stack(
        slug="vue",
        name="Vue",
        language="TypeScript/JavaScript",
        dependencies=("npm:vue",),
        covers=("typescript-javascript",),
    ),
    Stack(
        slug="typescript-javascript",
        name="TypeScript/JavaScript",
        language="TypeScript/JavaScript",
        files=("package.json", "tsconfig.json", "deno.json", "bun.lockb"),
    ),
    Stack(slug="rust", name="Rust", language="Rust", files=("Cargo.toml",)),
    Stack(
        slug="python-django",
        name="Python/Django",
        language="Python",
        files=("manage.py",),
        dependencies=("pypi:django",),
        covers=("python",),
    ),
    Stack(
        slug="python-fastapi",
        name="Python/FastAPI",
        language="Python",
        dependencies=("pypi:fastapi",),
        covers=("python",),
    ),
    Stack(
        slug="python-flask", name="Python/Flask", language="Python", dependencies=("pypi:flask",), covers=("python",)
    ),
    Stack(
        slug="python",
        name="Python",
        language="Python",
        files=("pyproject.toml", "setup.py", "setup.cfg", "requirements*.txt", "Pipfile"),
    ),
    Stack(slug="go", name="Go", language="Go", files=("go.mod",)),
    Stack(
        slug="spring-boot",
        name="Spring Boot",
        language="Java/Kotlin",
        dependencies=("maven:org.springframework.boot",),
        covers=("java-kotlin",),
    ),
    Stack(
        slug="java-kotlin",
        name="Java/Kotlin",
        language="Java/Kotlin",
        files=("pom.xml", "build.gradle", "build.gradle.kts"),
    ),
    Stack(
        slug="laravel",
        name="Laravel",
        language="PHP",
        files=("artisan",),
        dependencies=("composer:laravel/framework",),
        covers=("php",),
    ),
    Stack(slug="php", name="PHP", language="PHP", files=("composer.json",)),
    Stack(
        slug="phoenix",
        name="Phoenix",
        language="Elixir",
        dependencies=("hex:phoenix",),
        covers=("elixir",),
    ),
    Stack(slug="elixir", name="Elixir", language="Elixir", files=("mix.exs",)),
    Stack(slug="dotnet", name=".NET", language="C#", files=("*.csproj", "*.fsproj", "*.sln", "global.json")),
    Stack(slug="swift", name="Swift", language="Swift", files=("Package.swift", "*.xcodeproj")),
    Stack(slug="flutter", name="Flutter", language="Dart", files=("pubspec.yaml",)),
    Stack(slug="terraform", name="Terraform", language="HCL", files=("*.tf",)),
)
STACKS: dict[str, Stack] = {stack.slug: stack for stack in _ALL}


def detect(files: Iterable[str], manifests: Mapping[str, str] | None = None) -> list[str]:
    """The stacks that file names and manifests (path to text) show, in alphabetical order.

    A more special stack makes the general ones it covers superfluous.  What cannot be read shows nothing.
    """
    told = dict(list((manifests or {}).items())[:MANIFESTS_MAX])
    paths = _within([*list(files)[:FILES_MAX], *told])
    names = {dependency for path, text in told.items() if _ours(path) for dependency in dependencies(path, text)}
    found = {stack.slug for stack in _ALL if _shows(stack, paths, names)}
    covered = {general for slug in found for general in STACKS[slug].covers}
    return sorted(found - covered)


def dependencies(path: str, text: str) -> set[str]:
    """What a manifest depends on, as `registry:name`."""
    name = path.replace("\\", "/").rpartition("/")[2]
    for pattern, reader in _READERS:
        if fnmatchcase(name, pattern):
            return set(list(reader(text[:MANIFEST_CHARS_MAX]))[:DEPENDENCIES_MAX])
    return set()


def _within(paths: Iterable[str]) -> list[list[str]]:
    return [path.replace("\\", "/").removeprefix("./").split("/") for path in paths if _ours(path)]


def _ours(path: str) -> bool:
    folders = path.replace("\\", "/").removeprefix("./").split("/")[:-1]
    return len(folders) <= DEPTH_MAX and not _FOREIGN.intersection(folders)


def _shows(stack: Stack, paths: list[list[str]], names: set[str]) -> bool:
    if stack.needs_all:
        return names.issuperset(stack.needs_all)
    if names.intersection(stack.dependencies):
        return True
    for pattern in stack.files:
        depth = pattern.count("/") + 1
        if any(fnmatchcase("/".join(path[-depth:]), pattern) for path in paths):
            return True
    return False


def _npm(text: str) -> Iterable[str]:
    try:
        tree: Any = json.loads(text)
    except (ValueError, RecursionError):
        return
    for group in ("dependencies", "devDependencies", "peerDependencies"):
        told = tree.get(group) if isinstance(tree, dict) else None
        if isinstance(told, dict):
            yield from (f"npm:{name}" for name in told)


def _composer(text: str) -> Iterable[str]:
    try:
        tree: Any = json.loads(text)
    except (ValueError, RecursionError):
        return
    told = tree.get("require") if isinstance(tree, dict) else None
    if isinstance(told, dict):
        yield from (f"composer:{name}" for name in told)


_GEM = re.compile(r"""^\s*gem\s+["']([\w.-]+)["']""", re.MULTILINE)
_GEM_LOCK = re.compile(r"^    ([\w.-]+) \(", re.MULTILINE)
_PYPI = re.compile(r"""^\s*["']?([A-Za-z][\w.-]*)["']?\s*(?:\[[^\]\n]*\])?\s*(?:[<>=!~;,"'@]|$)""", re.MULTILINE)
_INLINE = re.compile(r"""["']([A-Za-z][\w.-]*)(?:\[[^\]"'\n]*\])?\s*(?:[<>=!~;][^"'\n]*)?["']""")
_HEX = re.compile(r"\{\s*:(\w+)\s*,")
_MAVEN = re.compile(r"(?:<groupId>|[\"'(])\s*(org\.springframework\.boot)\b")


def _pyproject(text: str) -> Iterable[str]:
    yield from _pypi(text)
    yield from (f"pypi:{name.lower()}" for name in _INLINE.findall(text))


def _pypi(text: str) -> Iterable[str]:
    yield from (f"pypi:{name.lower()}" for name in _PYPI.findall(text))


_READERS: tuple[tuple[str, Callable[[str], Iterable[str]]], ...] = (
    ("package.json", _npm),
    ("composer.json", _composer),
    ("Gemfile.lock", lambda text: (f"gem:{name}" for name in _GEM_LOCK.findall(text))),
    ("Gemfile", lambda text: (f"gem:{name}" for name in _GEM.findall(text))),
    ("pyproject.toml", _pyproject),
    ("requirements*.txt", _pypi),
    ("Pipfile", _pypi),
    ("setup.py", _pyproject),
    ("setup.cfg", _pypi),
    ("mix.exs", lambda text: (f"hex:{name}" for name in _HEX.findall(text))),
    ("pom.xml", lambda text: (f"maven:{name}" for name in _MAVEN.findall(text))),
    ("build.gradle*", lambda text: (f"maven:{name}" for name in _MAVEN.findall(text))),
)
