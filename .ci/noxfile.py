"""The suite on other interpreters and with the oldest dependencies: `nox -f .ci/noxfile.py`.

Interpreters are looked for among those of pyenv and on PATH; one that is not found is named, and left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.12", "3.13")

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True  # those listed were found: one that is gone now is an error


def _find(version: str) -> str | None:
    """The path of a Python of this version that really starts: a pyenv shim may be there and refuse to."""
    roots = [Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser(), Path("~/.pyenv").expanduser()]
    places = [
        str(path / "bin" / f"python{version}")
        for root in roots
        # newest patch first; a free-threaded build ("3.13t") is another kind of interpreter
        for path in sorted(root.glob(f"versions/{version}.*[0-9]"), key=_patch, reverse=True)
    ]
    places += filter(None, [shutil.which(f"python{version}")])
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for place in places:
        if not os.access(place, os.X_OK):
            continue
        done = subprocess.run([place, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip() == version:
            return place
    return None


def _patch(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]


FOUND = {version: place for version in VERSIONS if (place := _find(version))}
# nox finds an interpreter by its name on PATH
os.environ["PATH"] = os.pathsep.join(
    [*dict.fromkeys(os.path.dirname(place) for place in FOUND.values()), os.environ["PATH"]]
)


# What lies above the cores, and its statistics: the oldest and the newest interpreter are enough for these, over the
# native core. Its commands, each of whose tests starts processes, are tested on the machine's own interpreter.
LAB = (
    "lab_*",
    "capacity",
    "leak",
    "sample",
    "bootstrap",
    "comparison",
    "outliers",
    "modality",
    "steady",
    "changepoint",
)
COMMANDS = "--ignore=tests/test_cli_lab.py"
WITHOUT_LAB = [COMMANDS, *(f"--ignore-glob=tests/test_{name}.py" for name in LAB)]
ENDS = [*FOUND][:1] + [*FOUND][-1:]


def _suite(session: nox.Session, core: str, *options: str) -> None:
    expected = f"from hotlap import core; assert core.NAME == {core!r}, core.REASON"
    session.run("python", "-c", expected, env={"HOTLAP_CORE": core})
    session.run("python", "-m", "pytest", "-q", *options, *session.posargs, env={"HOTLAP_CORE": core})


@nox.session(venv_backend="none")
def interpreters(session: nox.Session) -> None:
    """Says which interpreters were found: there may be none, and then this is the only session."""
    for version in VERSIONS:
        session.log(f"Python {version}: {FOUND.get(version, 'not found, the suite does not run on it here')}")


@nox.session(python=list(FOUND))
def tests(session: nox.Session) -> None:
    """The suite on the native core, and all but the lab on the core in Python; see LAB for what is left out."""
    session.chdir(ROOT)
    session.install(".[test]")
    _suite(session, "native", *([COMMANDS] if session.python in ENDS else WITHOUT_LAB))
    _suite(session, "python", *WITHOUT_LAB)


@nox.session(python=[version for version in FOUND if version == "3.10"])
def lowest(session: nox.Session) -> None:
    """The suite with the oldest required dependencies that pyproject.toml allows."""
    session.chdir(ROOT)
    pyproject = nox.project.load_toml(ROOT / "pyproject.toml")
    oldest = [bound.replace(">=", "==") for bound in pyproject["project"]["dependencies"]]
    session.install(".[test]", *oldest)
    # The examples have needs of their own, in their first lines: newer ones than the library's.
    _suite(session, "native", "--ignore=tests/test_examples.py", *WITHOUT_LAB)


@nox.session(python=["3", *FOUND], default=False)
def stress(session: nox.Session) -> None:
    """Long and random, for changes to the cores: `nox -f .ci/noxfile.py -s stress`, two minutes an interpreter."""
    session.chdir(ROOT)
    session.install(".[test]", "gevent", "greenlet", "trio", "uvloop")
    quiet = ("-q", "-p", "no:hypothesispytest")  # trio makes that plugin warn
    for core in ("native", "python"):
        session.run("python", "-m", "pytest", *quiet, "tests/stress", *session.posargs, env={"HOTLAP_CORE": core})
