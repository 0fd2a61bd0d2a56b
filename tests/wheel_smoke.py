"""Start the built wheel, unpacked into a fresh environment, from a folder that shadows our package names."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

SHADOWED = ("api", "cli", "domain", "workers", "commands", "schemas", "projections", "eventstore")
NEEDED = ("_crewkit/eventstore/migrations/", "_crewkit/projections/prices/", "_crewkit/schemas/events/", "crewkit.py")
# The dependencies come from the environment that runs this (appended, so that its .pth files, and with them the editable
# checkout, stay out): nothing is downloaded, and a file missing from the wheel cannot be covered up by the checkout.
START = "import sys; sys.path.append(sys.argv.pop(1)); import crewkit; sys.exit(crewkit.main())"


def main(dist: Path) -> int:
    """`dist` holds exactly one wheel; the exit code says whether it starts."""
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        missing = [needed for needed in NEEDED if not any(name.startswith(needed) for name in names)]
        foreign = [name for name in names if not name.startswith(("_crewkit/", "crewkit.py", "crewkit-"))]
        if missing or foreign:
            sys.stderr.write(f"the wheel lacks {missing} and should not hold {foreign[:5]}\n")
            return 1
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            venv.create(home / "venv", with_pip=False)
            python = home / "venv" / "bin" / "python"
            probe = [python, "-c", "import site; print(site.getsitepackages()[0])"]
            archive.extractall(subprocess.run(probe, check=True, capture_output=True, text=True).stdout.strip())
            for name in SHADOWED:
                shadow = home / "work" / name
                shadow.mkdir(parents=True)
                (shadow / "__init__.py").write_text("raise RuntimeError('the shadow was imported')\n")
            dependencies = next(path for path in sys.path if path.endswith("site-packages"))
            env = {"PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": "."}
            for arguments in (["--version"], ["--help"], ["init", "--help"], ["up", "--help"], ["import", "--help"]):
                command = [python, "-c", START, dependencies, *arguments]
                done = subprocess.run(command, check=False, cwd=home / "work", env=env, capture_output=True, text=True)
                if done.returncode:
                    sys.stderr.write(f"crewkit {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
                    return 1
    print(f"wheel ok: {wheel.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
