"""A project, its repositories and its stacks, as a specification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain.kernel import DomainError, Event, NotFoundError, Sealed
from domain.organizations.manage import ConfirmationRequiredError, NotDueError
from domain.organizations.state import InvalidFieldError
from domain.projects import decide
from domain.projects.decide import NO_PROJECT, NotDeletedError, Project, ProjectChanges, ProjectState, evolve
from domain.projects.events import (
    ProjectCreated,
    ProjectDeleted,
    ProjectPurged,
    ProjectRestored,
    ProjectSlugChanged,
    ProjectStackOverridden,
    ProjectStacksDetected,
    ProjectUpdated,
)
from domain.projects.remotes import names_host, normalized
from domain.projects.stacks import STACKS, detect

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
LATER = AT + timedelta(days=90)
ID, ANN = UUID(int=1), UUID(int=2)
REMOTE = "github.com/acme/app"
CREATED = ProjectCreated(project_id=ID, slug="app", name="App", git_remotes=[REMOTE], created_at=AT)
DELETED = ProjectDeleted(project_id=ID, deleted_at=AT)
RESTORED = ProjectRestored(project_id=ID, restored_at=AT)
PURGED = ProjectPurged(project_id=ID, purged_at=LATER)
TEXT = Sealed(ANN, "what it does")
Decision = Callable[[ProjectState], list[Event]]


def after(*history: Event) -> ProjectState:
    state = NO_PROJECT
    for event in history:
        state = evolve(state, event)
    return state


def create(**told: Any) -> Decision:
    wish: dict[str, Any] = {"slug": "app", "name": "App", **told}
    return lambda state: decide.create(state, project_id=ID, at=AT, **wish)


def update(**told: Any) -> Decision:
    return lambda state: decide.update(state, changes=ProjectChanges(**told), at=AT)


def record(*stacks: str) -> Decision:
    return lambda state: decide.record_stacks(state, stacks=stacks, at=AT)


def delete(confirm: str | None = "app") -> Decision:
    return lambda state: decide.delete(state, confirm=confirm, at=AT)


def restore(state: ProjectState) -> list[Event]:
    return decide.restore(state, at=AT)


def purge(at: datetime = LATER) -> Decision:
    return lambda state: decide.purge(state, at=at)


def updated(**told: Any) -> ProjectUpdated:
    return ProjectUpdated(project_id=ID, updated_at=AT, **told)


def overridden(*stacks: str) -> ProjectStackOverridden:
    return ProjectStackOverridden(project_id=ID, stacks=list(stacks), overridden_at=AT)


def detected(*stacks: str) -> ProjectStacksDetected:
    return ProjectStacksDetected(project_id=ID, stacks=list(stacks), detected_at=AT)


@pytest.mark.parametrize(
    ("history", "when", "then"),
    [
        ([], create(git_remotes=["git@github.com:Acme/App.git", "https://github.com/acme/app"]), [CREATED]),
        ([], create(stacks=["rust", "go", "go"], git_remotes=[REMOTE]), [CREATED, overridden("go", "rust")]),
        ([CREATED], create(), []),
        ([CREATED], update(name="App", slug="app", git_remotes=[REMOTE]), []),
        ([CREATED], update(name="Apple"), [updated(name="Apple")]),
        ([CREATED], update(description=TEXT), [updated(description=TEXT)]),
        ([CREATED], update(git_remotes=[], default_branch="main"), [updated(git_remotes=[], default_branch="main")]),
        ([CREATED], update(slug="ap"), [ProjectSlugChanged(project_id=ID, slug="ap", before="app", changed_at=AT)]),
        ([CREATED], update(stacks=["rust"]), [overridden("rust")]),
        ([CREATED], update(stacks=[]), [overridden()]),
        ([CREATED, overridden("rust")], update(stacks=["rust"]), []),
        ([CREATED, overridden("rust")], update(name="App"), []),
        (
            [CREATED, overridden("rust")],
            update(no_override=True),
            [ProjectStackOverridden(project_id=ID, stacks=None, overridden_at=AT)],
        ),
        ([CREATED], update(no_override=True), []),
        ([CREATED], record("rust", "go"), [detected("go", "rust")]),
        ([CREATED, detected("go", "rust")], record("rust", "go"), []),
        ([CREATED, overridden("php")], record("go"), [detected("go")]),
        ([CREATED], delete(), [DELETED]),
        ([CREATED, DELETED], delete(None), []),
        ([CREATED, DELETED], restore, [RESTORED]),
        ([CREATED], restore, []),
        ([CREATED, DELETED], purge(), [PURGED]),
        ([CREATED, DELETED, PURGED], purge(), []),
    ],
)
def test_what_is_allowed(history: Sequence[Event], when: Decision, then: Sequence[Event]) -> None:
    assert when(after(*history)) == list(then)


@pytest.mark.parametrize(
    ("history", "when", "refusal"),
    [
        ([], create(slug="No"), InvalidFieldError),
        ([], create(name=" "), InvalidFieldError),
        ([], create(git_remotes=["/srv/git/app.git"]), InvalidFieldError),
        ([], create(git_remotes=["acme/app"]), InvalidFieldError),  # whose server is that?
        ([], create(git_remotes=[f"git@h.de:a/{n}" for n in range(21)]), InvalidFieldError),
        ([], create(stacks=["cobol"]), InvalidFieldError),
        ([], create(description=Sealed(ANN, "x" * 5_001)), InvalidFieldError),
        ([], create(default_branch=""), InvalidFieldError),
        ([], update(name="x"), NotFoundError),
        ([CREATED, DELETED], update(name="x"), NotFoundError),
        ([CREATED, DELETED], record("go"), NotFoundError),
        ([CREATED], record("cobol"), InvalidFieldError),
        ([CREATED], delete(None), ConfirmationRequiredError),
        ([CREATED], delete("App"), ConfirmationRequiredError),
        ([], delete(), NotFoundError),
        ([CREATED, DELETED, PURGED], restore, NotFoundError),
        ([CREATED], purge(), NotDeletedError),
        ([CREATED, DELETED], purge(LATER - timedelta(seconds=1)), NotDueError),
        ([], purge(), NotFoundError),
    ],
)
def test_what_is_refused(history: Sequence[Event], when: Decision, refusal: type[DomainError]) -> None:
    with pytest.raises(refusal):
        when(after(*history))


@pytest.mark.parametrize(
    "remote",
    [
        "git@github.com:acme/app.git",
        "git@github.com:Acme/App",
        "github.com:acme/app.git",
        "git@github.com:/acme/app.git/",
        "ssh://git@github.com/acme/app.git",
        "ssh://git@github.com:22/acme/app.git",
        "ssh://git@ssh.github.com:443/acme/app.git",
        "git+ssh://git@github.com/acme/app",
        "git://github.com/acme/app.git",
        "https://github.com/acme/app",
        "https://github.com/acme/app.git",
        "https://github.com/acme/app/",
        "https://GitHub.com:443/Acme/App.git",
        "https://user:secret@github.com/acme/app.git",
        "https://x-access-token:ghp_abc@github.com/acme/app",
        "http://www.github.com/acme/app?tab=readme#top",
        "  https://github.com//acme//app.git\n",
        "https://github.com/%61cme/app.git",
        "github.com/acme/app",
    ],
)
def test_one_repository_has_one_spelling(remote: str) -> None:
    assert normalized(remote) == REMOTE
    assert normalized(normalized(remote)) == REMOTE


@pytest.mark.parametrize(
    ("remote", "known"),
    [
        ("git@gitlab.com:group/sub/app.git", "gitlab.com/group/sub/app"),
        ("ssh://git@git.example.com:2222/~ann/app.git", "git.example.com/~ann/app"),
        ("git@ssh.dev.azure.com:v3/Org/Project/Repo", "dev.azure.com/org/project/repo"),
        ("https://org@dev.azure.com/Org/Project/_git/Repo", "dev.azure.com/org/project/repo"),
        ("ssh://git@[2001:db8::1]:2222/acme/app.git", "2001:db8::1/acme/app"),
        ("git@localhost:acme/app.git", "localhost/acme/app"),
        ("Acme/App.git", "acme/app"),
    ],
)
def test_other_servers_keep_their_ways(remote: str, known: str) -> None:
    assert normalized(remote) == known
    assert names_host(known) is (known != "acme/app")


@pytest.mark.parametrize(
    "remote",
    [
        "", "app", "/srv/git/app.git", "../app", "./a/b", "C:\\src\\app", "C:/src/app", "file:///srv/app.git",
        "https://", "https://github.com", "https://github.com/", "git@github.com:", "https://github.com/../x",
        "javascript://github.com/a/b", "https://[::1/a/b", "x" * 501, "https://github.com/a\x00/b",
        "https://user:secret@/a/b",
    ],
)  # fmt: skip
def test_what_names_no_repository_is_refused_without_repeating_secrets(remote: str) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        normalized(remote)
    assert refused.value.details["field"] == "git_remote"
    assert "secret" not in str(refused.value)


@given(st.text(max_size=60))
def test_any_text_is_normalized_or_refused(text: str) -> None:
    for candidate in (text, f"git@github.com:{text}", f"https://example.com/{text}"):
        try:
            known = normalized(candidate)
        except InvalidFieldError:
            continue
        assert known == known.lower() or known.lower() != known.lower().lower()
        assert "/" in known


@pytest.mark.parametrize(
    ("files", "manifests", "found"),
    [
        (["Gemfile", "bin/rails", "config/application.rb"], {}, ["rails"]),
        ([], {"Gemfile": 'gem "rails", "~> 8"\ngem \'turbo-rails\''}, ["rails-hotwire"]),
        ([], {"Gemfile.lock": "GEM\n  specs:\n    rails (8.0.1)\n    turbo-rails (2.0)\n"}, ["rails-hotwire"]),
        (["Gemfile", "lib/x.rb"], {}, ["ruby"]),
        (["package.json", "next.config.mjs"], {}, ["nextjs"]),
        ([], {"package.json": '{"dependencies": {"next": "15", "react": "19"}}'}, ["nextjs"]),
        ([], {"package.json": '{"devDependencies": {"react": "19"}}'}, ["react"]),
        (["tsconfig.json"], {}, ["typescript-javascript"]),
        ([], {"package.json": "not json"}, ["typescript-javascript"]),
        ([], {"package.json": '[["dependencies"]]'}, ["typescript-javascript"]),
        (["Cargo.toml", "src/main.rs"], {}, ["rust"]),
        (["manage.py", "pyproject.toml"], {}, ["python-django"]),
        ([], {"pyproject.toml": '[project]\ndependencies = ["Django>=5", "celery"]'}, ["python-django"]),
        ([], {"requirements-dev.txt": "fastapi[standard]==0.116 # web\nuvicorn"}, ["python-fastapi"]),
        ([], {"pyproject.toml": '[tool.poetry.dependencies]\nflask = "^3"'}, ["python-flask"]),
        (["setup.py"], {}, ["python"]),
        (["services/api/go.mod", "web/package.json"], {}, ["go", "typescript-javascript"]),
        (["build.gradle.kts"], {"build.gradle.kts": 'plugins { id("org.springframework.boot") }'}, ["spring-boot"]),
        (["mix.exs"], {"mix.exs": 'defp deps, do: [{:phoenix, "~> 1.7"}]'}, ["phoenix"]),
        (["artisan", "composer.json"], {}, ["laravel"]),
        (["src/App.csproj"], {}, ["dotnet"]),
        (["infra/main.tf"], {}, ["terraform"]),
        (["node_modules/x/package.json", "vendor/y/Cargo.toml", "a/b/c/d/e/go.mod"], {}, []),
        (["README.md", "docs/gemfile.md"], {}, []),
        ([".\\Cargo.toml", "sub\\pyproject.toml"], {}, ["python", "rust"]),
        ([], {}, []),
    ],
)
def test_stacks_are_recognised_by_their_signs(files: list[str], manifests: dict[str, str], found: list[str]) -> None:
    assert detect(files, manifests) == found


def test_the_documented_stacks_are_there_and_cover_only_known_ones() -> None:
    assert {"rails-hotwire", "nextjs", "typescript-javascript", "rust", "python-django"} <= set(STACKS)
    assert {general for stack in STACKS.values() for general in stack.covers} <= set(STACKS)


@given(
    st.lists(st.text(max_size=40), max_size=20),
    st.dictionaries(
        st.sampled_from(["package.json", "Gemfile", "pom.xml", "mix.exs", "pyproject.toml"]), st.text(max_size=200)
    ),
)
def test_detecting_never_fails(files: list[str], manifests: dict[str, str]) -> None:
    assert set(detect(files, manifests)) <= set(STACKS)


class ProjectMachine(RuleBasedStateMachine):
    """Changed, deleted, restored and purged in any order: hidden ones refuse changes, purged ones everything."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Event] = []
        self.now = AT

    @initialize()
    def create(self) -> None:
        self.history = [CREATED]

    @property
    def state(self) -> Project:
        state = after(*self.history)
        assert isinstance(state, Project)
        return state

    def attempt(self, decision: Decision) -> list[Event]:
        try:
            told = decision(self.state)
        except DomainError:
            return []
        self.history += told
        return told

    @rule(days=st.integers(1, 100))
    def wait(self, days: int) -> None:
        self.now += timedelta(days=days)

    @rule(slug=st.sampled_from(["app", "other"]), stacks=st.lists(st.sampled_from(["go", "rust"])))
    def change(self, slug: str, stacks: list[str]) -> None:
        hidden = self.state.deleted_at is not None
        told = self.attempt(update(slug=slug, stacks=stacks))
        assert not (told and hidden)
        if told:
            assert (self.state.slug, self.state.manual) == (slug, tuple(sorted(set(stacks))))

    @rule(stacks=st.lists(st.sampled_from(["go", "rust"])))
    def detect(self, stacks: list[str]) -> None:
        manual = self.state.manual
        self.attempt(record(*stacks))
        assert self.state.manual == manual, "what somebody said wins"

    @rule()
    def delete(self) -> None:
        self.attempt(lambda state: decide.delete(state, confirm=self.state.slug, at=self.now))

    @rule()
    def restore(self) -> None:
        self.attempt(restore)

    @rule()
    def purge(self) -> None:
        gone_since = self.state.deleted_at
        if self.attempt(purge(self.now)):
            assert gone_since is not None
            assert self.now - gone_since >= timedelta(days=90)

    @invariant()
    def nothing_follows_a_purge(self) -> None:
        ends = [n for n, event in enumerate(self.history) if isinstance(event, ProjectPurged)]
        assert ends in ([], [len(self.history) - 1])


TestProjects = ProjectMachine.TestCase
