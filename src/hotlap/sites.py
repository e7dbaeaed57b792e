"""The registry of sites: every instrumented function and block, by name, and what its user said about it.

A name stands for one site for as long as the process lives: declared again (a module reloaded, a notebook
cell run twice, a closure made in a loop) it is the same site, and the newest options hold.
"""

from __future__ import annotations

import inspect
import itertools
import math
import os
import sys
import threading
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from . import core
from .config import nearest
from .errors import OptionError, OptionTypeError
from .options import BenchmarkType, SiteOptions, seconds

__all__ = [
    "DEFAULT_LIMIT",
    "OTHER",
    "SiteInfo",
    "check_name",
    "check_options",
    "first_ns",
    "set_limit",
    "set_newcomer",
    "site_for",
    "sites",
    "size_reader",
]

OTHER = "other"  # takes the calls of all sites beyond the limit
DEFAULT_LIMIT = 10_000


class SiteInfo(NamedTuple):
    """What `Site.info` holds."""

    options: SiteOptions
    location: str | None  # "path/file.py:12"


sites: dict[str, core.Site] = {}

_ids = itertools.count()
_limit = DEFAULT_LIMIT
_warned = False
_newcomer: Callable[[core.Site], None] | None = None
_first_ns: int | None = None  # when the first site was made: nothing can have been called before
_given_last: dict[str, dict[str, object]] = {}  # by name: what `measure` gave, so that the same costs one look
_lock = threading.RLock()


def _new_lock() -> None:
    """A child must not inherit the lock from a thread that it does not have."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


# -- options -------------------------------------------------------------------------------------------------


def check_name(name: object, caller: str) -> str:
    """`name` when it can be a site's name. Raises OptionTypeError, OptionError."""
    if not isinstance(name, str):
        raise OptionTypeError(f"{caller}: name={name!r} is no string: give a text such as 'search.rank'")
    if not name or name != name.strip():
        raise OptionError(
            f"{caller}: name={name!r} is empty or has blanks around it: give a name such as 'search.rank'"
        )
    return name


def _type(value: object, caller: str) -> BenchmarkType:
    known = tuple(member.value for member in BenchmarkType)
    if not isinstance(value, str):
        raise OptionTypeError(f"{caller}: type={value!r} is no BenchmarkType: use one of {', '.join(known)}")
    try:
        return BenchmarkType(value)
    except ValueError:
        raise OptionError(f"{caller}: type={value!r} is no BenchmarkType; {nearest(value, known)}") from None


def _slo(value: object, caller: str) -> float:
    return seconds(value, f"{caller}: slo")


def _size(value: object, caller: str) -> str | Callable[..., Any]:
    if isinstance(value, str) or callable(value):
        return value
    raise OptionTypeError(
        f"{caller}: size={value!r} is neither text nor callable: give the name of an argument, "
        "or a callable that takes the call's arguments and returns a number"
    )


def _tags(value: object, caller: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise OptionTypeError(f"{caller}: tags={value!r} is no mapping: write {{'team': 'search'}}")
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise OptionTypeError(
                f"{caller}: tags has {key!r}: {text!r}, and names and values must be text: "
                f"write {str(key)!r}: {str(text)!r}"
            )
    return tuple(sorted(value.items()))


def _sample(value: object, caller: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise OptionTypeError(
            f"{caller}: sample={value!r} is no number: give the records per second wanted, 0 for none"
        )
    if not 0.0 <= value <= 1e9 or math.isnan(value):
        raise OptionError(f"{caller}: sample={value!r} is out of range: give records per second from 0 (none) to 1e9")
    return float(value)


_CHECKS: dict[str, tuple[str, Callable[[object, str], Any]]] = {
    "type": ("type", _type),
    "slo": ("slo_s", _slo),
    "size": ("size", _size),
    "tags": ("tags", _tags),
    "sample": ("sample", _sample),
}


def check_options(options: Mapping[str, object], caller: str) -> dict[str, Any]:
    """The options that were given (None: not given), checked, under the names of SiteOptions' fields.

    Raises OptionTypeError for an unknown option or a wrong type, OptionError for a value that is not allowed.
    """
    checked: dict[str, Any] = {}
    for key, value in options.items():
        if key not in _CHECKS:
            known = ("name", *_CHECKS, "private") if caller == "benchmark" else tuple(_CHECKS)
            raise OptionTypeError(f"{caller}: there is no option {key}={value!r}; {nearest(key, known)}")
        if value is not None:
            field, check = _CHECKS[key]
            checked[field] = check(value, caller)
    return checked


# -- size ----------------------------------------------------------------------------------------------------


def _as_size(value: Any) -> float | None:
    """A number is its own size, anything else has a length. None has no size."""
    if value is None:
        return None
    if isinstance(value, (int, float)):
        return value
    try:
        return len(value)
    except TypeError:
        return float(value)  # a Decimal, a numpy scalar


def size_reader(
    func: Callable[..., Any], size: str | Callable[..., Any] | None, bound: bool = False
) -> Callable[..., Any] | None:
    """What `Site.size_of` calls with a call's arguments: `size` itself, or a look-up of that argument.

    The look-up is resolved here once. With `bound`, calls come without the signature's first argument.
    Raises OptionError when `func` has no such parameter.
    """
    if not isinstance(size, str):
        return size
    reader = _look_up(func, size)
    if bound:
        return lambda *args, **kwargs: reader(None, *args, **kwargs)
    owner = _owner(func)
    if owner is None:
        return reader

    def read(*args: Any, **kwargs: Any) -> float | None:
        given = bool(args) and any(base.__qualname__ == owner for base in type(args[0]).__mro__)
        return reader(*args, **kwargs) if given else reader(None, *args, **kwargs)

    return read


def _owner(func: Any) -> str | None:
    """The class of a method that binds in a way of its own (functools.cache, a wrapt decorator), by its name.

    A probe of it sees calls both with the instance and without. A plain function's probe always sees it.
    """
    if type(func) is types.FunctionType or not hasattr(type(func), "__get__"):
        return None
    if isinstance(func, (types.MethodType, staticmethod)):
        return None
    owner, _, _ = str(getattr(func, "__qualname__", "")).rpartition(".")
    return owner if owner and not owner.endswith("<locals>") else None


def _look_up(func: Callable[..., Any], size: str) -> Callable[..., float | None]:
    try:
        parameters = inspect.signature(func).parameters
    except (TypeError, ValueError):
        raise OptionError(
            f"size={size!r} needs a signature, and {func!r} has none: give a callable of the arguments"
        ) from None
    if size not in parameters:
        known = f"its parameters are {', '.join(parameters)}" if parameters else "it has none"
        raise OptionError(f"size={size!r} is no parameter of {_called(func)}: {known}")
    parameter = parameters[size]
    default = None if parameter.default is parameter.empty else parameter.default
    if parameter.kind is parameter.KEYWORD_ONLY:
        return lambda *args, **kwargs: _as_size(kwargs.get(size, default))
    if parameter.kind is parameter.VAR_KEYWORD:
        named = frozenset(known for known in parameters if known != size)
        return lambda *args, **kwargs: sum(key not in named for key in kwargs)
    index = list(parameters).index(size)
    if parameter.kind is parameter.VAR_POSITIONAL:
        return lambda *args, **kwargs: max(0, len(args) - index)
    if parameter.kind is parameter.POSITIONAL_ONLY:
        return lambda *args, **kwargs: _as_size(args[index] if len(args) > index else default)
    return lambda *args, **kwargs: _as_size(args[index] if len(args) > index else kwargs.get(size, default))


def _called(func: Any) -> str:
    return str(getattr(func, "__qualname__", None) or getattr(func, "__name__", None) or repr(func))


# -- the registry --------------------------------------------------------------------------------------------


def set_limit(limit: int) -> None:
    """How many sites there may be; names beyond it share the site `other`. Existing sites stay."""
    global _limit, _warned
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise OptionTypeError(f"max_sites={limit!r} is no whole number: give how many sites there may be")
    if limit < 1:
        raise OptionError(f"max_sites={limit!r} is not allowed: give 1 or more")
    _limit = limit
    _warned = False


def first_ns() -> int | None:
    """When the first site was made, on the monotonic clock in ns; None before."""
    return _first_ns


def set_newcomer(hook: Callable[[core.Site], None] | None) -> None:
    """What is told of each site that is made from now on; the recorder's, while it runs."""
    global _newcomer
    _newcomer = hook


def site_for(
    name: str,
    options: SiteOptions | None = None,
    location: str | None = None,
    size_of: Callable[..., Any] | None = None,
) -> core.Site:
    """The site called `name`, made at need. Options and location are the site's from now on; None keeps them.

    When there are as many sites as allowed, a new name gets the site `other`, whose options never change.
    """
    global _first_ns, _warned
    warn = False
    with _lock:
        site = sites.get(name)
        new = site is None
        if _first_ns is None:
            _first_ns = core.now_ns()
        if site is None:
            if len(sites) - (OTHER in sites) < _limit:
                site = sites[name] = core.Site(next(_ids), name, SiteInfo(SiteOptions(), None))
            else:
                warn, _warned = not _warned, True
                site = sites.get(OTHER)
                if site is None:
                    site = sites[OTHER] = core.Site(next(_ids), OTHER, SiteInfo(SiteOptions(), None))
        if site.name == name:
            _update(site, options, location, size_of)
            if new and _newcomer is not None:
                _newcomer(site)
    if warn:
        warnings.warn(
            f"hotlap: there are {_limit} sites already, so {name!r} and every further name is counted under "
            f"{OTHER!r}: use fewer names (none made from data), or raise max_sites",
            RuntimeWarning,
            stacklevel=_outside(),
        )
    return site


def _update(
    site: core.Site, options: SiteOptions | None, location: str | None, size_of: Callable[..., Any] | None
) -> None:
    info: SiteInfo = site.info
    site.info = SiteInfo(options or info.options, location or info.location)
    if options is None:
        return
    site.size_of = size_of
    if options.sample == 0.0:
        site.sample(0.0, 1, 0)
    elif info.options.sample == 0.0:
        site.sample(1.0, 200)  # as a new site; the recorder sets its own figures with the next window


def _outside() -> int:
    """The stack level, as `warnings` counts it for its caller, of the first frame outside hotlap."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _ours(frame):
        level, frame = level + 1, frame.f_back
    return level


def _ours(frame: types.FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    return module == "hotlap" or module.startswith("hotlap.")


def _missing(name: str, options: Mapping[str, object]) -> core.Site:
    """The core's hook for `measure`: a name that has no site yet, or that comes with options.

    Options given here change those fields of the site's options and leave the others as they are.
    """
    site = sites.get(name) if isinstance(name, str) else None
    if site is not None and (not options or _given_last.get(name) == options):
        return site
    check_name(name, "measure")
    # A block's size is a plain number, which the core keeps with the call.
    checked = check_options({key: options[key] for key in options if key != "size"}, "measure")
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and _ours(frame):
        frame = frame.f_back
    location = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else None
    if site is None:
        site = site_for(name, SiteOptions(**checked), location)
    elif checked:
        info: SiteInfo = site.info
        site_for(name, info.options._replace(**checked), None, site.size_of)
    if site.name == name:
        _given_last[name] = dict(options)
    return site


core.set_sites(sites, _missing)
