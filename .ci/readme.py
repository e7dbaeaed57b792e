"""The commands of README.md, one a line: every line of its ```sh blocks, in order.

`python .ci/readme.py` prints them all; `python .ci/readme.py 2` the second one. What is not to be run by CI
stands in a ```text block.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def commands(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def main() -> None:
    found = commands(README.read_text(encoding="utf-8"))
    if len(found) < 2:
        sys.exit(f"{README} has {len(found)} commands in ```sh blocks: it needs one that runs and one that tests")
    if len(sys.argv) > 1:
        found = [found[int(sys.argv[1]) - 1]]
    print("\n".join(found))


if __name__ == "__main__":
    main()
