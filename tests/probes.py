"""Probes as the tests of the core make them, each with a site of its own."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from hotlap import core

Records = Callable[[], Any]
NEVER = 2**64 - 1


def make(func: Callable[..., Any], **sampling: Any) -> tuple[Any, core.Site]:
    """A probe over `func` with a site of its own."""
    site = core.Site(5, "site")
    if sampling:
        site.sample(sampling.get("p", 1.0), sampling.get("quota", 2**40), sampling.get("first", 0))
    kind = core.FunctionProbe if isinstance(func, types.FunctionType) else core.Probe
    return kind(func, site), site
