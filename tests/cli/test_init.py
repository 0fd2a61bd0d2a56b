"""`crewkit init` edits other people's files: it must be exact, repeatable, and reversible."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import tomlkit
from click.testing import CliRunner, Result

from cli.capture.paths import ClientDir
from cli.init import claude, init
from tests.cli.conftest import RECORDINGS

KEY = "ck_" + "1" * 32 + "_" + "s" * 43
THEIRS = """{
    "model": "opus",
    "hooks": {
        "PreToolUse": [
            {"matcher": "Bash", "hooks": [{"type": "command", "command": "./guard.sh", "timeout": 5}]}
        ],
        "Stop": []
    },
    "env": {
        "FOO": "ü",
        "OTEL_LOGS_EXPORTER": "console"
    },
    "permissions": {"allow": ["Bash(ls:*)"]}
}
"""


def crewkit(_init: str, *arguments: str, check: int = 0) -> Result:
    """Run `crewkit init` in this process: a new one for every call would be most of the time of these tests."""
    done = CliRunner().invoke(init, arguments)
    assert done.exit_code == check, done.output
    return done


@pytest.fixture
def home(paths: ClientDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder; the working directory is a project in it."""
    monkeypatch.setenv("CREWKIT_URL", "http://127.0.0.1:8123")
    monkeypatch.setenv("CREWKIT_API_KEY", KEY)
    monkeypatch.setenv("CREWKIT_ORGANIZATION", "default")
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return paths.home.parent


def settings(home: Path) -> Path:
    return home / ".claude" / "settings.json"


def test_every_hook_event_but_worktree_create_and_only_what_must_is_waited_for(home: Path) -> None:
    crewkit("init", "--yes")
    hooks = json.loads(settings(home).read_text())["hooks"]
    assert len(hooks) == 32
    assert "WorktreeCreate" not in hooks
    waited = {event for event, groups in hooks.items() if not groups[0]["hooks"][0].get("async")}
    assert waited == {"SessionStart", "SessionEnd"}
    seen = {
        json.loads(line)["payload"]["hook_event_name"]
        for path in RECORDINGS.glob("claude-*/hooks.jsonl")
        for line in path.read_bytes().splitlines()
    }
    assert seen <= set(hooks)


def test_variables_are_set_and_the_key_is_in_no_settings_file(home: Path) -> None:
    for scope in ("user", "project", "local"):
        crewkit("init", "--scope", scope, "--yes")
    files = [settings(home), Path(".claude/settings.json"), Path(".claude/settings.local.json")]
    for file in files:
        text = file.read_text()
        assert KEY not in text
        told = json.loads(text)
        assert told["env"] == claude.variables("http://127.0.0.1:8123")
        shown = subprocess.run(told["otelHeadersHelper"], shell=True, capture_output=True, check=True, text=True)  # noqa: S602
        assert json.loads(shown.stdout) == {"X-API-Key": KEY}


def test_the_helper_reads_the_key_when_it_is_needed(
    home: Path, paths: ClientDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREWKIT_URL")
    monkeypatch.delenv("CREWKIT_API_KEY")
    crewkit("init", "--yes")
    assert paths.headers_helper.stat().st_mode & 0o777 == 0o700
    data = home / "data" / "crewkit.json"
    data.parent.mkdir()
    for key in ("ck_one", "ck_two"):
        data.write_text(json.dumps({"url": "http://127.0.0.1:1", "api_key": key}, indent=2))
        shown = subprocess.check_output([str(paths.headers_helper)], text=True)
        assert json.loads(shown) == {"X-API-Key": key}
    data.unlink()
    assert json.loads(subprocess.check_output([str(paths.headers_helper)], text=True)) == {}


def test_what_is_not_ours_stays_with_its_order_and_indentation(home: Path) -> None:
    settings(home).parent.mkdir()
    settings(home).write_text(THEIRS)
    settings(home).chmod(0o640)
    shown = crewkit("init", "--yes").stdout
    text = settings(home).read_text()
    told = json.loads(text)
    assert list(told)[:4] == ["model", "hooks", "env", "permissions"]
    assert told["hooks"]["PreToolUse"][0] == json.loads(THEIRS)["hooks"]["PreToolUse"][0]
    assert len(told["hooks"]["PreToolUse"]) == 2
    assert told["env"]["FOO"] == "ü"
    assert '\n    "model": "opus"' in text
    assert settings(home).stat().st_mode & 0o777 == 0o640
    assert '-        "OTEL_LOGS_EXPORTER": "console"' in shown
    assert "+++ " in shown


def test_again_changes_nothing_and_another_address_changes_only_that(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(home).parent.mkdir()
    settings(home).write_text(THEIRS)
    crewkit("init", "--yes")
    before = settings(home).read_text()
    assert "nothing was changed" in crewkit("init", "--yes").stdout
    assert settings(home).read_text() == before
    monkeypatch.setenv("CREWKIT_URL", "https://crewkit.example.org")
    crewkit("init", "--yes")
    assert settings(home).read_text() == before.replace("http://127.0.0.1:8123", "https://crewkit.example.org")
    crewkit("init", "--remove", "--yes")
    assert settings(home).read_text() == THEIRS


@pytest.mark.parametrize(
    "text", [THEIRS, "{}", '{"a":1}', "{}\n", '{\n\t"hooks": {}\n}', '{"hooks": {"Stop": []}, "env": {}}\n', None, ""]
)
@pytest.mark.parametrize("scope", ["user", "local"])
def test_removing_gives_the_file_back_byte_for_byte(home: Path, text: str | None, scope: str) -> None:
    path = settings(home) if scope == "user" else Path(".claude/settings.local.json")
    if text is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    crewkit("init", "--scope", scope, "--yes")
    assert path.read_text() != text
    crewkit("init", "--scope", scope, "--yes")
    crewkit("init", "--scope", scope, "--remove", "--yes")
    assert (path.read_text() if path.exists() else None) == text
    assert "nothing of crewkit's" in crewkit("init", "--scope", scope, "--remove", "--yes").stdout


def test_removing_after_others_edited_takes_only_what_is_ours(home: Path) -> None:
    settings(home).parent.mkdir()
    settings(home).write_text(THEIRS)
    crewkit("init", "--yes")
    told = json.loads(settings(home).read_text())
    told["theme"] = "dark"
    told["hooks"]["Stop"].append({"hooks": [{"type": "command", "command": "say done"}]})
    settings(home).write_text(json.dumps(told, indent=4, ensure_ascii=False))
    crewkit("init", "--yes")
    crewkit("init", "--remove", "--yes")
    left = json.loads(settings(home).read_text())
    expected = json.loads(THEIRS)
    expected["theme"] = "dark"
    expected["hooks"]["Stop"] = [{"hooks": [{"type": "command", "command": "say done"}]}]
    assert left == expected


def test_without_memory_removing_still_takes_everything_of_ours(home: Path, paths: ClientDir) -> None:
    crewkit("init", "--yes")
    (paths.home / "init.json").unlink()
    crewkit("init", "--remove", "--yes")
    assert json.loads(settings(home).read_text()) == {}


def test_invalid_settings_are_not_touched(home: Path) -> None:
    settings(home).parent.mkdir()
    for text, why in (
        ("{not json", "not valid JSON"),
        ("[]", "JSON object"),
        ('{"hooks": []}', "'hooks'"),
        ('{"hooks": {"Stop": 1}}', "hooks.Stop"),
    ):
        settings(home).write_text(text)
        assert why in crewkit("init", "--yes", check=1).stderr
        assert settings(home).read_text() == text


def test_a_dry_run_changes_nothing_at_all(home: Path, paths: ClientDir) -> None:
    before = sorted(str(path) for path in home.rglob("*"))
    assert "SessionStart" in crewkit("init", "--dry-run").stdout
    assert sorted(str(path) for path in home.rglob("*")) == before


def test_a_linked_settings_file_stays_linked(home: Path) -> None:
    real = home / "dotfiles.json"
    real.write_text("{}")
    settings(home).parent.mkdir()
    settings(home).symlink_to(real)
    crewkit("init", "--yes")
    assert settings(home).is_symlink()
    assert "hook.sh" in real.read_text()


def test_content_levels_are_kept_per_project(home: Path, paths: ClientDir) -> None:
    crewkit("init", "--yes", "--content", "counts")
    crewkit("init", "--scope", "local", "--yes", "--content", "full")
    told = json.loads(paths.config.read_text())["content"]
    assert told == {"default": "counts", "projects": {str(Path.cwd()): "full"}}


def test_agents_own_folders_are_honoured(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "codex"))
    crewkit("init", "--yes")
    crewkit("init", "--agent", "codex", "--yes")
    assert (tmp_path / "claude" / "settings.json").exists()
    assert (tmp_path / "codex" / "hooks.json").exists()
    assert (tmp_path / "codex" / "config.toml").exists()


def test_a_committed_command_names_no_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREWKIT_HOME")
    crewkit("init", "--scope", "project", "--yes", "--no-otel")
    text = Path(".claude/settings.json").read_text()
    assert str(home) not in text
    assert "$HOME/.crewkit/hook.sh" in text
    command = json.loads(text)["hooks"]["Stop"][0]["hooks"][0]["command"]
    (home / ".crewkit" / "spool" / "flusher").write_text(f"{os.getpid()}\n")
    os.utime(home / ".crewkit" / "spool" / "flusher", (4_000_000_000, 4_000_000_000))
    subprocess.run(["sh", "-c", command], input=b"{}", check=True, timeout=30)
    assert len(list((home / ".crewkit" / "spool" / "incoming").iterdir())) == 1


def test_codex_gets_hooks_and_exporters_and_loses_them_again(home: Path) -> None:
    folder = home / ".codex"
    folder.mkdir()
    theirs = '# mine\nmodel = "gpt-5.5"\n\n[otel]\nlog_user_prompt = false # keep\n\n[tui]\ntheme = "x"\n'
    (folder / "config.toml").write_text(theirs)
    shown = crewkit("init", "--agent", "codex", "--yes").stdout
    assert KEY not in shown
    assert "trust" in shown
    hooks = json.loads((folder / "hooks.json").read_text())["hooks"]
    assert "SessionStart" in hooks
    assert "crewkit_agent=codex" in hooks["Stop"][0]["hooks"][0]["command"]
    text = (folder / "config.toml").read_text()
    told = tomlkit.parse(text).unwrap()
    assert told["otel"]["exporter"]["otlp-http"]["endpoint"] == "http://127.0.0.1:8123/v1/logs"
    assert told["otel"]["exporter"]["otlp-http"]["headers"]["X-API-Key"] == KEY
    assert "# mine" in text
    assert "# keep" in text
    assert (folder / "config.toml").stat().st_mode & 0o777 == 0o600
    assert "nothing was changed" in crewkit("init", "--agent", "codex", "--yes").stdout
    crewkit("init", "--agent", "codex", "--remove", "--yes")
    assert (folder / "config.toml").read_text() == theirs
    assert not (folder / "hooks.json").exists()


def test_codex_in_a_project_gets_no_key_and_foreign_exporters_stay(home: Path) -> None:
    crewkit("init", "--agent", "codex", "--scope", "project", "--yes")
    assert KEY not in Path(".codex/config.toml").read_text()
    theirs = '[otel]\nexporter = { otlp-http = { endpoint = "https://theirs", protocol = "json" } }\n'
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text(theirs)
    assert "does not replace it" in crewkit("init", "--agent", "codex", "--yes", check=1).stderr
    assert (home / ".codex" / "config.toml").read_text() == theirs
    (home / ".codex" / "config.toml").write_text("= not toml")
    assert "not valid TOML" in crewkit("init", "--agent", "codex", "--yes", check=1).stderr
