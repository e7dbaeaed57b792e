"""Config, and the one place that reads the environment and [tool.hotlap] of pyproject.toml.

Layers, later ones win: defaults, the nearest pyproject.toml, the environment, arguments. A name or value that
is not allowed is an error in every layer; nothing is silently replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from . import readers
from .errors import OptionError, OptionTypeError
from .options import seconds
from .readers import Limits4, Reader, closest, nearest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Config",
    "Early",
    "Limits4",
    "Row",
    "RuleConfig",
    "SiteConfig",
    "closest",
    "early",
    "explain",
    "load",
    "nearest",
    "seconds",
]

_ENV = "HOTLAP_"
_ENVIRONMENT, _ARGUMENT = "environment ", "argument"  # sources of a value, besides the path of a file
_CORES = ("auto", "native", "python")
_LEVELS = ("debug", "info", "warning", "error")

_TIME = readers.limits(seconds, rising=True)
_AMOUNT = readers.limits(readers.positive, rising=True)
_SUCCESS = readers.limits(readers.positive, rising=False, most=1.0)
_THROUGHPUT = readers.limits(readers.positive, rising=False)


class SiteConfig(NamedTuple):
    """What the configuration says about one site, or about the sites that match a pattern."""

    slo: float | None = None
    time: Limits4 | None = None
    memory: Limits4 | None = None
    cpu: Limits4 | None = None
    success: Limits4 | None = None
    throughput: Limits4 | None = None


class RuleConfig(NamedTuple):
    """What the configuration says about one rule; a limit of None is the rule's own."""

    info: float | None = None
    warning: float | None = None
    enabled: bool = True


_LIMIT = readers.number(1e-300, 1e300, "a number more than 0")
_SITE_KEYS: dict[str, Reader] = {
    "slo": readers.duration,
    "time": _TIME,
    "memory": _AMOUNT,
    "cpu": _AMOUNT,
    "success": _SUCCESS,
    "throughput": _THROUGHPUT,
}
_RULE_KEYS: dict[str, Reader] = {"info": _LIMIT, "warning": _LIMIT, "enabled": readers.flag}


# --- the options ----------------------------------------------------------------------------------


def _about(read: Reader, help: str, *, env: bool = True, only_env: bool = False) -> dict[str, Any]:
    return {"read": read, "help": help, "env": env, "only_env": only_env}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All options, checked. Made by `load`; `Config()` is the defaults."""

    interval: float = field(
        default=10.0, metadata=_about(readers.interval, "seconds between two cycles of the aggregator")
    )
    sample_rate: float = field(
        default=20.0,
        metadata=_about(
            readers.number(0.0, 1e6, "a number from 0 to 1,000,000"),
            "records per second and site, 0 for none",
        ),
    )
    first_calls: int = field(
        default=10,
        metadata=_about(
            readers.number(0, 1_000_000, "a whole number from 0 to 1,000,000", whole=True),
            "first calls of a site that always leave a record",
        ),
    )
    budget: float = field(
        default=0.01,
        metadata=_about(
            readers.number(1e-6, 1.0, "a fraction of one core, more than 0 and at most 1"),
            "what the recorder may cost, as a fraction of one core",
        ),
    )
    ring_capacity: int = field(
        default=16384, metadata=_about(readers.power_of_two, "records that the ring holds, a power of two")
    )
    max_sites: int = field(
        default=10_000,
        metadata=_about(
            readers.number(1, 10_000_000, "a whole number from 1 to 10,000,000", whole=True),
            'sites kept apart; later ones are counted as the site "other"',
        ),
    )
    tail_spans: bool = field(
        default=False,
        metadata=_about(readers.flag, "show slow and failed sampled calls as spans of their traces"),
    )
    sinks: tuple[Any, ...] = field(
        default=("structlog", "otel"), metadata=_about(readers.sinks, "where reports go, in this order")
    )
    slo: float | None = field(
        default=None, metadata=_about(readers.duration, "SLO of the sites that have none of their own")
    )
    time_thresholds: Limits4 = field(
        default=(0.1, 0.5, 1.0, 2.0),
        metadata=_about(_TIME, "p95 in seconds for 90, 75, 60, 40 points; a site's SLO replaces them"),
    )
    memory_thresholds: Limits4 = field(
        default=(50.0, 100.0, 200.0, 500.0),
        metadata=_about(_AMOUNT, "fresh MB per call for 90, 75, 60, 40 points"),
    )
    cpu_thresholds: Limits4 = field(
        default=(20.0, 40.0, 60.0, 80.0),
        metadata=_about(_AMOUNT, "percent of one core for 90, 75, 60, 40 points"),
    )
    success_thresholds: Limits4 = field(
        default=(0.99, 0.95, 0.90, 0.80), metadata=_about(_SUCCESS, "success rate for 90, 75, 60, 40 points")
    )
    throughput_thresholds: Limits4 | None = field(
        default=None,
        metadata=_about(_THROUGHPUT, "calls per second for 90, 75, 60, 40 points; none: demand decides, so not scored"),
    )
    sites: Mapping[str, SiteConfig] = field(
        default_factory=dict,
        metadata=_about(
            readers.table(_SITE_KEYS, SiteConfig),
            f"options by site name or pattern (with * and ?): {', '.join(_SITE_KEYS)}",
            env=False,
        ),
    )
    rules: Mapping[str, RuleConfig] = field(
        default_factory=dict,
        metadata=_about(readers.table(_RULE_KEYS, RuleConfig), f"options by rule: {', '.join(_RULE_KEYS)}", env=False),
    )
    report_path: str | None = field(
        default=None, metadata=_about(readers.path, "file for the newest reports, written with each cycle")
    )
    log_level: str = field(
        default="info", metadata=_about(readers.choice(_LEVELS), "log events below this level are left out")
    )
    disabled: bool = field(
        default=False,
        metadata=_about(readers.flag, "benchmark returns its argument untouched; read at import", only_env=True),
    )
    core: str = field(
        default="auto",
        metadata=_about(readers.choice(_CORES), "auto, native or python; read at import", only_env=True),
    )

    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)  # what could not be read, and why

    def spelled(self, name: str) -> str:
        """An option's name as the layer that its value came from spells it: for the message of an error."""
        source = self.sources.get(name, _ARGUMENT)
        if source == _ARGUMENT:
            return name
        return _env_name(name) if source.startswith(_ENVIRONMENT) else f"{name} in [tool.hotlap] of {source}"

    def site(self, name: str) -> SiteConfig | None:
        """The options of a site: its exact name first, then the first pattern that matches."""
        if not self.sites:
            return None
        found = self.sites.get(name)
        if found is not None:
            return found
        from fnmatch import fnmatchcase

        for pattern, options in self.sites.items():
            if fnmatchcase(name, pattern):
                return options
        return None

    def slo_for(self, name: str, own: float | None) -> float | None:
        """The SLO that counts: of the site in the configuration, else its own, else the common one."""
        here = self.site(name)
        if here is not None and here.slo is not None:
            return here.slo
        return own if own is not None else self.slo


class Early(NamedTuple):
    """The two options that are needed while hotlap is being imported."""

    core: str
    disabled: bool


class Row(NamedTuple):
    """One option for `hotlap config`."""

    name: str
    value: object
    source: str
    help: str
    env: str | None


def _options() -> dict[str, Field[Any]]:
    return {option.name: option for option in fields(Config) if "read" in option.metadata}


def early(env: Mapping[str, str] | None = None) -> Early:
    """HOTLAP_CORE and HOTLAP_DISABLED; raises OptionError for a value that is not allowed."""
    env = os.environ if env is None else env
    core, disabled = env.get(_ENV + "CORE"), env.get(_ENV + "DISABLED")
    return Early(
        core=readers.choice(_CORES)(core, _ENV + "CORE", True) if core else "auto",
        disabled=readers.flag(disabled, _ENV + "DISABLED", True) if disabled else False,
    )


def load(
    overrides: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    start: Path | str | None = None,
    caller: str = "hotlap",
) -> Config:
    """The configuration from all layers; `start` is where the search for pyproject.toml begins.

    Raises OptionError or OptionTypeError for unknown names and for values that are not allowed; `caller` is
    who was given the overrides, for the message. An empty environment variable counts as not set; "none"
    there is None, for the options whose default that is.
    """
    options = _options()
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}

    path, table, notes = _pyproject(start)
    for name, value in table.items():
        option = _known(name, options, f"[tool.hotlap] in {path}")
        if option.metadata["only_env"]:
            raise OptionError(
                f"{name} in [tool.hotlap] of {path} is not allowed: it is read at import, "
                f"set the environment variable {_env_name(name)}"
            )
        values[name] = option.metadata["read"](value, f"{name} in [tool.hotlap] of {path}", False)
        sources[name] = str(path)

    env = os.environ if env is None else env
    for key in sorted(env):
        if not key.startswith(_ENV) or not env[key]:
            continue
        name = _set_by(key, options)
        taken_back = env[key].lower() == "none" and options[name].default is None
        values[name] = None if taken_back else options[name].metadata["read"](env[key], key, True)
        sources[name] = _ENVIRONMENT + key

    for name, value in (overrides or {}).items():
        option = _known(name, options, caller)
        if option.metadata["only_env"]:
            raise OptionError(
                f"{name}={value!r} comes too late: it is read at import, set {_env_name(name)} in the environment"
            )
        if value is None and option.default is not None:
            raise OptionTypeError(f"{name}=None is not allowed: leave it out for {option.default!r}")
        values[name] = option.metadata["read"](value, name, False)
        sources[name] = _ARGUMENT

    return Config(**values, sources=sources, notes=notes)


def explain(config: Config) -> tuple[Row, ...]:
    """Each option with value, where it came from, and help; first what could not be read, if anything."""
    rows = [Row("note", note, "pyproject.toml", "", None) for note in config.notes]
    for name, option in _options().items():
        variable = _env_name(name) if option.metadata["env"] else None
        source = config.sources.get(name, "default")
        rows.append(Row(name, getattr(config, name), source, option.metadata["help"], variable))
    return tuple(rows)


def _env_name(name: str) -> str:
    return _ENV + name.upper()


def _set_by(key: str, options: Mapping[str, Field[Any]]) -> str:
    """The option that an environment variable sets."""
    named = {_env_name(name): name for name in options}
    variables = [one for one, name in named.items() if options[name].metadata["env"]]
    if key in variables:
        return named[key]
    fix = nearest(key, variables, _ENV)
    if key in named:
        fix = f"{named[key]} is a table, give it in [tool.hotlap] of pyproject.toml or to hotlap.start()"
    raise OptionError(f"{key} is no environment variable of hotlap: {fix}")


def _known(name: str, options: Mapping[str, Field[Any]], where: str) -> Field[Any]:
    if not isinstance(name, str):
        raise OptionTypeError(f"{where} has an option named {name!r}: give a string")
    if name not in options:
        settable = [one for one, option in options.items() if not option.metadata["only_env"]]
        raise OptionError(f"{where} has no option {name!r}: {nearest(name, settable)}")
    return options[name]


def _pyproject(start: Path | str | None) -> tuple[Path | None, Mapping[str, Any], tuple[str, ...]]:
    """The nearest pyproject.toml upwards from `start`, its [tool.hotlap], and notes on what was not read."""
    from pathlib import Path

    try:
        here = (Path.cwd() if start is None else Path(start)).resolve()
        path = next((p for p in (d / "pyproject.toml" for d in (here, *here.parents)) if p.is_file()), None)
        data = path.read_bytes() if path is not None else b""
    except OSError as error:
        return None, {}, (f"no pyproject.toml was read: {error}",)
    if path is None or b"hotlap" not in data:  # most projects: spares the parser
        return path, {}, ()
    parse = _toml_parser()
    if parse is None:
        if b"[tool.hotlap" not in data:
            return path, {}, ()
        return (
            path,
            {},
            (f"[tool.hotlap] in {path} was not read: Python 3.10 needs `pip install tomli` for it",),
        )
    try:
        content = parse(data.decode())
    except ValueError as error:
        raise OptionError(f"{path} cannot be read as TOML: {error}; correct it there") from None
    table = content.get("tool", {}).get("hotlap", {})
    if not isinstance(table, dict):
        raise OptionTypeError(f"tool.hotlap={table!r} in {path} has the wrong type: make it a table")
    return path, table, ()


def _toml_parser() -> Callable[[str], dict[str, Any]] | None:
    """tomllib from Python 3.11 on; before that tomli, if it happens to be installed."""
    for name in ("tomllib", "tomli"):
        try:
            loads: Callable[[str], dict[str, Any]] = import_module(name).loads
        except ImportError:
            continue
        return loads
    return None
