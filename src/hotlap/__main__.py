"""`python -m hotlap`: the same as the `hotlap` command."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
