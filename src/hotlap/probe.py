"""`benchmark` and `measure`: what is measured, and how each kind of callable is.

    function, lambda                 FunctionProbe: binds as a function does
    any other callable               Probe: binds as the callable itself does
    classmethod, staticmethod        the same kind of object over a probe of its function, in either order
    property, cached_property,       a copy over probes of its functions
    partialmethod
    class                            in place: each method that the class itself defines

The probes themselves, and everything that happens in a call, are the core's.
"""

from __future__ import annotations

import functools
import os
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast, overload

from . import config, core
from .callables import default_name, flow, functions, inner_probe, location
from .errors import OptionError, OptionTypeError
from .options import BenchmarkType, SiteOptions
from .sites import (
    OTHER,
    SiteInfo,
    check_name,
    check_options,
    set_limit,
    site_for,
    sites,
    size_reader,
)

__all__ = [
    "OTHER",
    "SiteInfo",
    "benchmark",
    "disable",
    "enable",
    "measure",
    "restore",
    "set_limit",
    "site_for",
    "sites",
]

_Measurable = TypeVar(
    "_Measurable",
    bound="Callable[..., Any] | property | classmethod[Any, Any, Any] | staticmethod[Any, Any] "
    "| functools.cached_property[Any] | functools.partialmethod[Any] | functools.singledispatchmethod[Any]",
)
_NOTHING: Any = object()
_LRU_CACHE = type(functools.lru_cache(len))
_DUNDERS = ("__init__", "__call__")  # the dunder methods that measuring a class measures
_HOLDERS = (
    classmethod,
    staticmethod,
    property,
    functools.cached_property,
    functools.partialmethod,
    functools.singledispatchmethod,
)
_METHODS = (types.FunctionType, *_HOLDERS, _LRU_CACHE)
# Python makes these of plain functions in a class body, and a probe is none.
_IMPLICIT: dict[str, Callable[[Any], Any]] = {
    "__new__": staticmethod,
    "__init_subclass__": classmethod,
    "__class_getitem__": classmethod,
}
_DISABLED = config.early(os.environ).disabled


class Decorator(Protocol):
    """What `benchmark(...)` with options alone returns."""

    def __call__(self, obj: _Measurable, /) -> _Measurable: ...


@overload
def benchmark(
    obj: _Measurable,
    /,
    *,
    name: str | None = None,
    type: BenchmarkType | str | None = None,
    slo: float | str | None = None,
    size: str | Callable[..., float | None] | None = None,
    tags: Mapping[str, str] | None = None,
    sample: float | None = None,
    private: bool = False,
) -> _Measurable: ...


@overload
def benchmark(
    *,
    name: str | None = None,
    type: BenchmarkType | str | None = None,
    slo: float | str | None = None,
    size: str | Callable[..., float | None] | None = None,
    tags: Mapping[str, str] | None = None,
    sample: float | None = None,
    private: bool = False,
) -> Decorator: ...


def benchmark(
    obj: Any = _NOTHING,
    /,
    *,
    name: str | None = None,
    type: BenchmarkType | str | None = None,
    slo: float | str | None = None,
    size: str | Callable[..., float | None] | None = None,
    tags: Mapping[str, str] | None = None,
    sample: float | None = None,
    private: bool = False,
    **unknown: object,
) -> Any:
    """Measure every call of a function, method, property or class: `@benchmark` or `@benchmark(slo="50ms")`.

    name     the site's name (default: module and qualified name); for a class, the start of its methods'
    type     what the site is about: a BenchmarkType or its value, "cpu"
    slo      how long a call may take: seconds, or a text such as "50ms"
    size     how big a call's input is: an argument's name, or a callable of the arguments
    tags     texts by name, reported with the site
    sample   records with evidence wanted per second (default: as configured; 0: none)
    private  for a class: also the methods whose names begin with an underscore

    A class is measured in place and returned: the methods, properties and so on that stand in its own body,
    of the dunder methods `__init__` and `__call__` only. Nested classes stay as they are, and so do methods
    that are measured already. Everything else is returned wrapped, and `restore` gives it back. What is
    measured already is not measured twice. With HOTLAP_DISABLED=1 the argument is returned as it is.

    Raises OptionTypeError (a TypeError) and OptionError (a ValueError).
    """
    given = check_options(
        {"type": type, "slo": slo, "size": size, "tags": tags, "sample": sample, **unknown}, "benchmark"
    )
    if name is not None:
        check_name(name, "benchmark")
    if not isinstance(private, bool):
        raise OptionTypeError(f"benchmark: private={private!r} is neither True nor False")
    wish = _Wish(name, None, given, private)
    if obj is not _NOTHING:
        return _measured(obj, wish)
    return lambda obj, /: _measured(obj, wish)


class _Wish(NamedTuple):
    """What one use of `benchmark` asks for."""

    name: str | None  # as given
    default: str | None  # the name when none is given, if it is not the object's own
    given: dict[str, Any]  # the fields of SiteOptions that were given
    private: bool = False


def _measured(obj: Any, wish: _Wish) -> Any:
    """`obj` measured, by what kind of object it really is (proxies say they are something else)."""
    if wish.private and not isinstance(obj, type):
        raise OptionError(f"benchmark: private=True is for a class, and {obj!r} is none: leave it out")
    for kind, wrap in _KINDS:
        if issubclass(type(obj), kind):
            return obj if _DISABLED else wrap(obj, wish)
    if not callable(obj):
        fix = f"; to name a site write benchmark(name={obj!r})" if isinstance(obj, str) else ""
        raise OptionTypeError(
            f"benchmark: {obj!r} cannot be measured: give a function, another callable, a method, a property "
            f"or a class{fix}"
        )
    return obj if _DISABLED else _callable(obj, wish)


# -- kinds ---------------------------------------------------------------------------------------------------


def _callable(obj: Any, wish: _Wish) -> Any:
    inner = inner_probe(obj)
    if inner is not None and wish.name is None:
        _redeclare(inner, wish)
        return obj
    probe = _probe(obj, wish.name or wish.default or default_name(obj), SiteOptions(**wish.given))
    owner, _, name = str(getattr(obj, "__qualname__", "")).rpartition(".")
    if name not in _IMPLICIT or not owner or owner.endswith("<locals>"):
        return probe
    return _holding(_IMPLICIT[name](probe), obj, probe)


def _probe(func: Any, name: str, options: SiteOptions) -> core.Probe:
    size_of = size_reader(func, options.size)
    site = site_for(name, options, location(func), size_of)
    if type(func) is types.FunctionType:
        return core.FunctionProbe(func, site, flow(func))
    return core.Probe(func, site, flow(func))


def _redeclare(probe: core.Probe, wish: _Wish) -> None:
    """New options for the site of a probe, merged into those it has."""
    if wish.given:
        site = probe._self_site
        options = _options(site)._replace(**wish.given)
        site_for(site.name, options, None, size_reader(probe.__wrapped__, options.size))


def _options(site: core.Site) -> SiteOptions:
    info: SiteInfo = site.info
    return info.options


def _again(probe: core.Probe, wish: _Wish) -> Any:
    """A probe: itself, or, for another name, one over the same callable with the options of both."""
    if wish.name is None or wish.name == probe._self_site.name:
        _redeclare(probe, wish)
        return probe
    return _probe(probe.__wrapped__, wish.name, _options(probe._self_site)._replace(**wish.given))


def _class_or_static_method(obj: Any, wish: _Wish) -> Any:
    func = obj.__func__
    if isinstance(func, type):
        raise OptionTypeError(f"benchmark: {obj!r} holds a class: measure the class itself")
    probe = _measured(func, wish)
    if probe is func:
        return obj
    made = type(obj)(probe)
    made.__dict__.update({key: value for key, value in obj.__dict__.items() if key != "__wrapped__"})
    return _holding(made, obj, probe)


def _property(obj: property, wish: _Wish) -> Any:
    given = _shared_out(obj, list(functions(obj)), wish.given)
    base = wish.name or wish.default or next(default_name(func) for func in functions(obj))
    made: dict[str, Any] = {}
    for role, ending in (("fget", ""), ("fset", ".setter"), ("fdel", ".deleter")):
        func = getattr(obj, role)
        made[role] = func
        if func is not None:
            own = wish.name is None and wish.default is None and default_name(func) != base
            name = default_name(func) if own else base + ending
            ask = wish._replace(name=name if wish.name else None, default=name, given=given[id(func)])
            made[role] = _measured(func, ask)
    changed = [role for role in made if made[role] is not getattr(obj, role)]
    if not changed:
        return obj
    rebuilt = type(obj)(made["fget"], made["fset"], made["fdel"], obj.__doc__)
    for role in changed:
        _holding(rebuilt, obj, made[role])
    return rebuilt


def _copied(obj: Any, wish: _Wish) -> Any:
    """cached_property and partialmethod: a copy with the probe in the place of `func`."""
    if isinstance(obj, functools.partialmethod) and wish.default is None:
        module, _, name = default_name(obj.func).rpartition(".")
        wish = wish._replace(default=f"{module}.partialmethod({name})")
    probe = _measured(obj.func, wish)
    return obj if probe is obj.func else _holding(_copy_over(obj, probe), obj, probe)


def _copy_over(obj: Any, func: Any) -> Any:
    made: Any = type(obj).__new__(type(obj), func)
    made.__dict__.update(obj.__dict__)
    made.func = func
    return made


if TYPE_CHECKING:
    _Dispatch = functools.singledispatchmethod[Any]
else:
    _Dispatch = functools.singledispatchmethod


class _MeasuredDispatch(_Dispatch):
    """A generic method makes a new function each time it is bound: it is measured where it is bound.

    `func` is a probe whose site is used; which implementation is called is the dispatcher's business.
    """

    def __get__(self, obj: Any, cls: type | None = None) -> Any:
        probe: Any = self.func
        return core.Probe(super().__get__(obj, cls), probe._self_site, probe._self_flow)


def _singledispatchmethod(obj: Any, wish: _Wish) -> Any:
    probe = _measured(obj.func, wish)
    if probe is obj.func and not isinstance(obj, _MeasuredDispatch):
        return obj
    probe._self_site.size_of = size_reader(probe.__wrapped__, _options(probe._self_site).size, bound=True)
    if probe is obj.func:
        return obj
    made = _MeasuredDispatch.__new__(_MeasuredDispatch)
    made.__dict__.update(obj.__dict__)
    made.func = probe
    return _holding(made, obj, probe)


def _class(cls: Any, wish: _Wish) -> Any:
    prefix = wish.name or f"{cls.__module__}.{cls.__qualname__}"
    found = {name: value for name, value in vars(cls).items() if _is_method(cls, name, value, wish.private)}
    given = _shared_out(cls, list(found.values()), wish.given)
    replaced: dict[str, Any] = {}
    for name, value in found.items():
        made = _measured(value, _Wish(None, f"{prefix}.{name}", given[id(value)]))
        try:
            setattr(cls, name, made)
        except (AttributeError, TypeError) as error:
            for done, original in replaced.items():
                setattr(cls, done, original)
            raise OptionTypeError(
                f"benchmark: {cls!r} cannot be measured, its attributes cannot be set ({error}): "
                "measure a subclass, or its methods one by one"
            ) from error
        replaced[name] = value
    return cls


def _is_method(cls: type, name: str, value: Any, private: bool) -> bool:
    """Whether measuring `cls` measures this member of its own."""
    if name.startswith("__") and name.endswith("__"):
        # Not what another module put there: the __init__ that typing gives a Protocol must stay itself.
        owned = getattr(value, "__qualname__", None) == f"{cls.__qualname__}.{name}"
        if name not in _DUNDERS or not owned:
            return False
    elif name.startswith("_") and not private:
        return False
    if not isinstance(value, _METHODS) or isinstance(value, type):
        return False
    if isinstance(value, (classmethod, staticmethod)) and isinstance(value.__func__, type):
        return False
    return all(inner_probe(func) is None for func in functions(value))


def _shared_out(owner: Any, members: list[Any], given: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The options for each member, by its id: a `size` that names a parameter goes to those that have it.

    Raises OptionError when none has.
    """
    size = given.get("size")
    if not isinstance(size, str):
        return {id(member): given for member in members}
    rest = {key: value for key, value in given.items() if key != "size"}
    shared = {id(member): given if _has(member, size) else rest for member in members}
    if not any("size" in each for each in shared.values()):
        raise OptionError(
            f"benchmark: size={size!r} is a parameter of no method of {owner!r}: "
            "name one, or give a callable of the arguments"
        )
    return shared


def _has(member: Any, parameter: str) -> bool:
    for func in functions(member):
        try:
            size_reader(func, parameter)
        except OptionError:
            continue
        return True
    return False


_KINDS: tuple[tuple[type, Callable[[Any, _Wish], Any]], ...] = (
    (core.Probe, _again),
    (classmethod, _class_or_static_method),
    (staticmethod, _class_or_static_method),
    (property, _property),
    (functools.cached_property, _copied),
    (functools.partialmethod, _copied),
    (functools.singledispatchmethod, _singledispatchmethod),
    (type, _class),
)


# -- giving back ---------------------------------------------------------------------------------------------


def _holding(made: Any, original: Any, probe: Any) -> Any:
    """Note on the probe what `made` is a measured copy of, for `restore`: a copy may have no attributes."""
    probe._self_holder = restore(original)
    return made


def restore(obj: Any) -> Any:
    """The object that was decorated; a class is restored in place and returned.

    What is not measured is returned as it is.
    """
    kind: Any = type(obj)
    if issubclass(kind, core.Probe):
        return obj.__wrapped__
    if issubclass(kind, types.MethodType):
        original = restore(obj.__func__)
        return obj if original is obj.__func__ else types.MethodType(original, obj.__self__)
    if isinstance(obj, type):
        for name, value in list(vars(obj).items()):
            if isinstance(value, _METHODS) and not isinstance(value, type):
                original = restore(value)
                if original is not value:
                    setattr(obj, name, original)
        return obj
    if not issubclass(kind, _HOLDERS):
        return obj
    probes = [func for func in functions(obj) if issubclass(type(func), core.Probe)]
    originals = [restore(func) for func in functions(obj)]
    for probe in probes:
        holder = getattr(probe, "_self_holder", None)
        if holder is not None and list(map(id, functions(holder))) == list(map(id, originals)):
            return holder
    if not probes:
        return obj
    # Measured before they were put in, or changed since (a setter added): the same kind over the originals.
    if isinstance(obj, property):
        return kind(*(func and restore(func) for func in (obj.fget, obj.fset, obj.fdel)), obj.__doc__)
    if issubclass(kind, (classmethod, staticmethod)):
        return kind(*originals)
    if not isinstance(obj, functools.singledispatchmethod):
        return _copy_over(obj, *originals)
    made = functools.singledispatchmethod(*originals)
    for cls, implementation in obj.dispatcher.registry.items():
        if cls is not object:
            made.register(cls, restore(implementation))
    return made


# -- switches and blocks -------------------------------------------------------------------------------------


def enable() -> None:
    """Measure again after `disable`."""
    core.enable(True)


def disable() -> None:
    """Stop measuring in this process: probes and blocks pass straight through, at the cost of a look."""
    core.enable(False)


def _decorate(name: str, options: Mapping[str, object], func: Any) -> Any:
    """The core's hook for a `measure(...)` object used as a decorator: as `benchmark(name=name, ...)`.

    A number as size is every call's.
    """
    options = dict(options)
    size = options.get("size")
    if isinstance(size, (int, float)):
        options["size"] = lambda *args, **kwargs: size
    return _measured(func, _Wish(check_name(name, "measure"), None, check_options(options, "measure")))


class _Unmeasured:
    """`measure` with HOTLAP_DISABLED=1: nothing happens."""

    __slots__ = ()

    def __init__(self, name: str, /, **options: object) -> None:
        pass

    def record(self, **numbers: float) -> None:
        pass

    def __call__(self, func: _Measurable) -> _Measurable:
        return func

    def __enter__(self) -> _Unmeasured:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    async def __aenter__(self) -> _Unmeasured:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass


core.set_decorate(_decorate)
measure: type[core.Measurement] = core.measure
if _DISABLED:
    measure = cast("type[core.Measurement]", _Unmeasured)
