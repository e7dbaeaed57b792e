"""Type checkers keep the signature of what is measured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hotlap.probe

API = Path(__file__).parent / "typing" / "api.py"


@pytest.mark.slow
def test_mypy(tmp_path: Path) -> None:
    """mypy --strict accepts tests/typing/api.py, and every misuse in it is an error."""
    pytest.importorskip("mypy")
    source = Path(hotlap.probe.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path), str(API)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "MYPYPATH": str(source)} if "site-packages" not in source.parts else None,
    )
    assert done.returncode == 0, done.stdout + done.stderr
