"""The two scripts that agents run: the hook, and the helper that prints the OTLP headers."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from cli.capture.paths import ClientDir, write_atomically

SCRIPT_MODE = 0o700

# What every line costs was measured: one fork (cat) on the usual way, everything else is done by the shell itself.
HOOK = r"""#!/bin/sh
# crewkit hook, written by `crewkit init`.  Keeps what the agent says (standard input) in the spool and returns.
# It prints nothing, always exits 0, and never looks at the agent's environment.  Runs in any POSIX shell; settings source
# it (one process less), tests and people may also run it:  sh hook.sh [claude|codex|gemini] < payload.json
exec 2>/dev/null
[ -t 0 ] && exit 0
umask 077
set -C # a name that exists is never written to: neighbours stay whole
s=@SPOOL@
a=${1:-${crewkit_agent:-claude}}
f=$s/incoming/$a.$$ n=0
while [ -e "$f" ] && [ "$n" -lt 9999 ]; do n=$((n + 1)) f=$s/incoming/$a.$$.$n; done
# No folder: make it.  No space or no right: swallow the rest, so that the agent sees no broken pipe.  No cat: the shell reads.
cat >"$f" || if command -v cat; then
  [ -d "$s/incoming" ] || mkdir -p "$s/incoming"
  cat >"$f.r" || cat >/dev/null
else
  while IFS= read -r l || [ -n "$l" ]; do printf '%s\n' "$l"; done >|"$f" || while read -r l; do :; done
fi >/dev/null
# The flusher moves the time of this file ahead of the clock while it lives, so no process id can fool us for long.
read -r p <"$s/flusher" && kill -0 "$p" && [ ! "$f" -nt "$s/flusher" ] && exit 0
(
  # Of many hooks that find no flusher one starts it; a mark left by a start that was killed counts for a minute.
  echo "$$" >"$s/starting" || { find "$s/starting" -mmin +1 -exec rm -f {} \; ; exit 0; }
  cd /
  export CREWKIT_HOME=@HOME@
  command -v setsid && exec setsid @PROGRAM@ flush --background
  exec nohup @PROGRAM@ flush --background
) </dev/null >/dev/null 2>&1 &
exit 0
"""

HEADERS = r"""#!/bin/sh
# crewkit OTLP headers, written by `crewkit init`: prints {"X-API-Key": "..."}.  The key is read now and kept nowhere else.
k=${CREWKIT_API_KEY:-}
for f in ${CREWKIT_DATA_DIR:+"$CREWKIT_DATA_DIR/crewkit.json"} @FILES@; do
  [ -n "$k" ] && break
  [ -r "$f" ] && k=$(tr -d '\n' <"$f" | sed -n 's/.*"api_key"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p')
done
[ -n "$k" ] && printf '{"X-API-Key": "%s"}\n' "$k" || printf '{}\n'
"""


def program() -> list[str]:
    """How to start this program again, safe from the user's PYTHONPATH and working directory."""
    root = Path(__file__).resolve().parents[2]  # the checkout, or `_crewkit/` in a wheel
    launcher = root / "crewkit.py" if (root / "crewkit.py").exists() else root.parent / "crewkit.py"
    return [sys.executable, "-I", str(launcher)]


def hook_text(paths: ClientDir) -> str:
    """The hook script for this client folder."""
    return (
        HOOK.replace("@SPOOL@", shlex.quote(str(paths.spool)))
        .replace("@HOME@", shlex.quote(str(paths.home)))
        .replace("@PROGRAM@", shlex.join(program()))
    )


def headers_text(paths: ClientDir, data_dir: Path) -> str:
    """The headers helper for this client folder; `data_dir` is where `crewkit up` keeps its key."""
    files = [paths.connection, data_dir / "crewkit.json"]
    return HEADERS.replace("@FILES@", shlex.join(str(file) for file in files))


def install(paths: ClientDir, data_dir: Path) -> None:
    """Write both scripts; they change only when their text does."""
    paths.make()
    for path, text in ((paths.hook, hook_text(paths)), (paths.headers_helper, headers_text(paths, data_dir))):
        if not path.exists() or path.read_text() != text or path.stat().st_mode & 0o777 != SCRIPT_MODE:
            write_atomically(path, text.encode(), SCRIPT_MODE)


def hook_command(paths: ClientDir, agent: str, *, shared: bool) -> str:
    """What a settings file runs.  It does nothing, quietly, where the script is missing.

    `shared`: the file may be committed, so the path is written relative to `$HOME` where that is possible.
    """
    place = shlex.quote(str(paths.hook))
    if shared and paths.home == Path.home() / ".crewkit":
        place = '"$HOME/.crewkit/hook.sh"'
    name = "" if agent == "claude" else f"crewkit_agent={shlex.quote(agent)} && "
    return f"[ -r {place} ] && {name}. {place} || :"
