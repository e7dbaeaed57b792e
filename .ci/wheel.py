"""`python .ci/wheel.py dist`: the wheel that was built has every module of src/hotlap, and nothing else."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

SRC = Path(__file__).resolve().parent.parent / "src"


def _tree(folder: Path) -> set[str]:
    found = set()
    for path in folder.iterdir():
        if path.is_dir():  # hotlap/integrations is a symlink: followed here, as in the package
            found |= _tree(path) if path.name != "__pycache__" else set()
        elif path.suffix in (".py", ".pyi") or path.name == "py.typed":
            found.add(path.relative_to(SRC).as_posix())
    return found


def main() -> None:
    dist = Path(sys.argv[1])
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        built = {name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith("/")}
    with tarfile.open(sdist) as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    natives = {name for name in built if name.startswith("hotlap/core/_native.") and name.endswith(".so")}
    wanted = _tree(SRC / "hotlap")
    headers = {path.relative_to(SRC.parent).as_posix() for path in SRC.rglob("*.[ch]")}
    problems = [
        *(f"not in the wheel: {name} (packages or package-data in pyproject.toml)" for name in sorted(wanted - built)),
        *(f"in the wheel, but not wanted: {name}" for name in sorted(built - wanted - natives)),
        *(f"not in the sdist: {name} (sources or depends in pyproject.toml)" for name in sorted(headers - shipped)),
    ]
    if len(natives) != 1:
        problems.append(f"the wheel has {len(natives)} native cores, not one: the C compiler's messages are above")
    if "hotlap/py.typed" not in built:
        problems.append("not in the wheel: hotlap/py.typed")
    if problems:
        sys.exit("\n".join(problems))
    print(f"{wheel.name}: {len(built)} files, native core included")


if __name__ == "__main__":
    main()
