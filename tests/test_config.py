"""Configuration: layers, checks, and where each value came from."""

from __future__ import annotations

import builtins
import dataclasses
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotlap import config, readers
from hotlap.config import Config, RuleConfig, SiteConfig, early, explain, load
from hotlap.errors import OptionError, OptionTypeError

needs_toml = pytest.mark.skipif(config._toml_parser() is None, reason="Python 3.10 without tomli")
Project = Callable[[str], Path]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Write a pyproject.toml and return a directory below it."""

    def write(text: str) -> Path:
        (tmp_path / "pyproject.toml").write_text(text)
        below = tmp_path / "a" / "b"
        below.mkdir(parents=True, exist_ok=True)
        return below

    return write


def test_without_any_layer_the_defaults_hold() -> None:
    """`load` with nothing set equals Config(), and every source is the default."""
    assert load({}, {}, "/") == Config()
    assert {row.source for row in explain(load({}, {}, "/"))} == {"default"}


def test_defaults_pass_their_own_checks() -> None:
    """Each default is a value that its option would accept."""
    for field in dataclasses.fields(Config):
        if "read" in field.metadata:
            value = getattr(Config(), field.name)
            assert field.metadata["read"](value, field.name, False) == value


@needs_toml
def test_later_layers_win(project: Project) -> None:
    """pyproject.toml beats the defaults, the environment beats it, arguments beat all; sources say which."""
    start = project("[tool.hotlap]\ninterval = '5s'\nsample_rate = 1\nbudget = 0.5\n")
    made = load({"interval": 1}, {"HOTLAP_INTERVAL": "2s", "HOTLAP_SAMPLE_RATE": "2"}, start)
    assert (made.interval, made.sample_rate, made.budget, made.first_calls) == (1.0, 2.0, 0.5, 10)
    rows = {row.name: row for row in explain(made)}
    assert rows["interval"].source == "argument"
    assert rows["sample_rate"].source == "environment HOTLAP_SAMPLE_RATE"
    assert rows["budget"].source.endswith("pyproject.toml")
    assert rows["first_calls"].source == "default"


def test_explain_describes_every_option() -> None:
    """Each option has a row with help and, where it has one, its environment variable."""
    rows = {row.name: row for row in explain(Config())}
    assert set(rows) == {field.name for field in dataclasses.fields(Config)} - {"sources", "notes"}
    assert all(row.help for row in rows.values())
    assert rows["interval"].env == "HOTLAP_INTERVAL"
    assert rows["rules"].env is None


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("INTERVAL", "500ms", 0.5),
        ("SAMPLE_RATE", "0", 0.0),
        ("FIRST_CALLS", "3", 3),
        ("BUDGET", "0.05", 0.05),
        ("RING_CAPACITY", "1024", 1024),
        ("MAX_SITES", "5", 5),
        ("TAIL_SPANS", "Yes", True),
        ("TAIL_SPANS", "off", False),
        ("SINKS", "structlog, otel", ("structlog", "otel")),
        ("SINKS", "none", ()),
        ("SLO", "50ms", 0.05),
        ("SLO", "none", None),
        ("THROUGHPUT_THRESHOLDS", "None", None),
        ("REPORT_PATH", "none", None),
        ("TIME_THRESHOLDS", "1ms, 2ms, 0.5, 1", (0.001, 0.002, 0.5, 1.0)),
        ("SUCCESS_THRESHOLDS", "0.999,0.99,0.9,0.5", (0.999, 0.99, 0.9, 0.5)),
        ("THROUGHPUT_THRESHOLDS", "40,30,20,10", (40.0, 30.0, 20.0, 10.0)),
        ("REPORT_PATH", "out.json", "out.json"),
        ("LOG_LEVEL", "warning", "warning"),
        ("DISABLED", "1", True),
        ("CORE", "python", "python"),
    ],
)
def test_the_environment_is_read_as_text(name: str, text: str, expected: object) -> None:
    """Every option with a variable takes its text form."""
    assert getattr(load({}, {f"HOTLAP_{name}": text}, "/"), name.lower()) == expected


@pytest.mark.parametrize("value", [0, 0.0, -1, 1e-9, "1ns", "9 ms", 86_401, "25h", 1e30, float("nan")])
def test_an_interval_out_of_range_has_one_message(value: object) -> None:
    """However far out: always the range that holds for it."""
    with pytest.raises(OptionError) as caught:
        load({"interval": value}, {}, "/")
    assert str(caught.value) == f"interval={value!r} is not allowed: give a duration from 10 ms to 24 h"


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("nope", ("structlog", "otel", "memory", "file"), None),  # half of the letters are otel's
        ("structlogg", ("structlog", "otel"), "structlog"),
        ("warn", ("info", "warning"), "warning"),
        ("WARNING", ("info", "warning"), "warning"),
        ("rate", ("sample_rate", "ring_capacity"), "sample_rate"),
        ("time", ("time.slow", "time.tail"), None),  # a part of both
        ("a", ("tail", "zoo"), None),  # too short to mean one
    ],
)
def test_only_what_is_close_is_suggested(name: str, known: tuple[str, ...], meant: str | None) -> None:
    """A name much like one, or a part of only one; anything else gets the list."""
    assert readers.closest(name, known) == meant
    says = f"did you mean {meant!r}?" if meant else f"known are {', '.join(sorted(known))}"
    assert readers.nearest(name, known) == says


def test_a_common_prefix_makes_no_name_likely() -> None:
    """Of HOTLAP_NOPE and HOTLAP_CORE only the rest is compared."""
    known = ("HOTLAP_CORE", "HOTLAP_SLO")
    assert readers.closest("HOTLAP_NOPE", known) is not None
    assert readers.closest("HOTLAP_NOPE", known, "HOTLAP_") is None
    assert readers.closest("HOTLAP_COR", known, "HOTLAP_") == "HOTLAP_CORE"


def test_an_error_names_whom_the_options_were_given_to() -> None:
    """hotlap.start(intervall=1) is told of start()."""
    with pytest.raises(OptionError, match=r"^start\(\) has no option 'intervall': did you mean 'interval'"):
        load({"intervall": 1}, {}, "/", caller="start()")


@needs_toml
def test_an_option_is_spelled_as_its_layer_does(project: Project) -> None:
    """What a later stage refuses is named as the user wrote it."""
    start = project("[tool.hotlap]\nbudget = 0.5\n")
    made = load({"interval": 1}, {"HOTLAP_SLO": "2s"}, start)
    assert made.spelled("interval") == "interval"
    assert made.spelled("slo") == "HOTLAP_SLO"
    assert made.spelled("budget") == f"budget in [tool.hotlap] of {start.parents[1] / 'pyproject.toml'}"
    assert Config().spelled("sinks") == "sinks"


def test_an_empty_variable_counts_as_not_set() -> None:
    """HOTLAP_X= is how shells and compose files unset a variable."""
    assert load({}, {"HOTLAP_INTERVAL": "", "HOTLAP_NONSENSE": "", "OTHER": "1"}, "/") == Config()


@pytest.mark.parametrize(
    ("overrides", "error", "says"),
    [
        ({"interval": "1ms"}, OptionError, "interval='1ms' is not allowed: give a duration from 10"),
        ({"interval": "soon"}, OptionError, "is no duration"),
        ({"interval": None}, OptionTypeError, "interval=None"),
        ({"interval": True}, OptionTypeError, "interval=True"),
        ({"sample_rate": -1}, OptionError, "sample_rate=-1"),
        ({"sample_rate": "20"}, OptionTypeError, "sample_rate='20'"),
        ({"sample_rate": float("nan")}, OptionError, "nan"),
        ({"first_calls": 1.5}, OptionTypeError, "whole number"),
        ({"budget": 0}, OptionError, "fraction of one core"),
        ({"budget": 2}, OptionError, "budget=2"),
        ({"ring_capacity": 1000}, OptionError, "512 or 1024"),
        ({"ring_capacity": 0}, OptionError, "power of two"),
        ({"ring_capacity": True}, OptionTypeError, "power of two"),
        ({"max_sites": 0}, OptionError, "max_sites=0"),
        ({"tail_spans": 1}, OptionTypeError, "true or false"),
        ({"sinks": "otel"}, OptionTypeError, "give a list"),
        ({"sinks": [3]}, OptionTypeError, "no sink"),
        ({"sinks": 3}, OptionTypeError, "give a list"),
        ({"sinks": ["otel", "otel"]}, OptionError, "'otel' more than once"),
        ({"slo": -1}, OptionError, "slo=-1 is not allowed: give a duration from 1 ns to 1e9 s"),
        ({"time_thresholds": [1, 2, 3]}, OptionError, "(1, 2, 3) is not allowed: give four values"),
        ({"time_thresholds": [4, 3, 2, 1]}, OptionError, "rise strictly"),
        ({"time_thresholds": 5}, OptionTypeError, "four values"),
        ({"memory_thresholds": "big"}, OptionTypeError, "four values"),
        ({"memory_thresholds": [0, 1, 2, 3]}, OptionError, "has 0"),
        ({"cpu_thresholds": [1, 2, 3, "4"]}, OptionTypeError, "'4'"),
        ({"success_thresholds": [0.8, 0.9, 0.95, 0.99]}, OptionError, "fall strictly"),
        ({"success_thresholds": [99, 95, 90, 80]}, OptionError, "less than 1"),
        ({"throughput_thresholds": [1, 1, 1, 1]}, OptionError, "fall strictly"),
        ({"sites": 3}, OptionTypeError, "table of tables"),
        ({"sites": {"f": 3}}, OptionTypeError, "give a table"),
        ({"sites": {"f": {"slow": 3}}}, OptionError, "did you mean 'slo'?"),
        ({"sites": {3: {}}}, OptionTypeError, "give a string"),
        ({"sites": {"f": {"slo": "x"}}}, OptionError, "sites['f'].slo='x'"),
        ({"rules": {"time.slow": {"warn": 3}}}, OptionError, "did you mean 'warning'?"),
        ({"rules": {"time.slow": {"info": -3}}}, OptionError, "more than 0"),
        ({"rules": {"time.slow": {"enabled": 0}}}, OptionTypeError, "true or false"),
        ({"report_path": 3}, OptionTypeError, "path of a file"),
        ({"report_path": ""}, OptionError, "report_path='' is empty"),
        ({"log_level": "warn"}, OptionError, "did you mean 'warning'?"),
        ({"log_level": "INFO"}, OptionError, "did you mean 'info'?"),
        ({"log_level": 30}, OptionTypeError, "log_level=30"),
        ({"intervall": 1}, OptionError, "hotlap has no option 'intervall': did you mean 'interval'?"),
        ({"rate": 1}, OptionError, "did you mean 'sample_rate'?"),
        ({"zzz": 1}, OptionError, "known are budget, cpu_thresholds, first_calls"),
        ({3: 1}, OptionTypeError, "give a string"),
        ({"core": "python"}, OptionError, "HOTLAP_CORE"),
        ({"disabled": True}, OptionError, "HOTLAP_DISABLED"),
        ({"sources": {}}, OptionError, "no option 'sources'"),
    ],
)
def test_bad_arguments_are_refused_with_value_and_fix(
    overrides: dict[Any, Any], error: type[Exception], says: str
) -> None:
    """Each wrong value or name raises at once and says what would be right."""
    with pytest.raises(error) as caught:
        load(overrides, {}, "/")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("HOTLAP_INTERVL", "1", "did you mean 'HOTLAP_INTERVAL'?"),
        ("HOTLAP_SITES", "x", "sites is a table, give it in [tool.hotlap]"),
        ("HOTLAP_NOPE", "x", "known are HOTLAP_BUDGET, HOTLAP_CORE"),
        ("HOTLAP_INTERVAL", "0", "HOTLAP_INTERVAL='0' is not allowed: give a duration from 10 ms"),
        ("HOTLAP_INTERVAL", "none", "HOTLAP_INTERVAL='none' is no duration"),
        ("HOTLAP_BUDGET", "lots", "HOTLAP_BUDGET='lots' is no number"),
        ("HOTLAP_FIRST_CALLS", "1.5", "whole number"),
        ("HOTLAP_TAIL_SPANS", "maybe", "give 1 or 0"),
        ("HOTLAP_CORE", "rust", "auto, native, python"),
        ("HOTLAP_CPU_THRESHOLDS", "1,2,3", "give four values"),
        ("HOTLAP_TIME_THRESHOLDS", "1,2,3,soon", "soon"),
    ],
)
def test_bad_environment_is_refused(key: str, text: str, says: str) -> None:
    """A misspelt variable or value is an error, never silently the default."""
    with pytest.raises(OptionError) as caught:
        load({}, {key: text}, "/")
    assert says in str(caught.value)


@needs_toml
@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("[tool.hotlap]\nintervall = 1\n", OptionError, "did you mean 'interval'?"),
        ("[tool.hotlap]\nbudget = 'x'\n", OptionTypeError, "budget in [tool.hotlap]"),
        ("[tool.hotlap\n", OptionError, "cannot be read as TOML"),
        ("[tool]\nhotlap = 3\n", OptionTypeError, "make it a table"),
        ("[tool.hotlap]\ncore = 'python'\n", OptionError, "HOTLAP_CORE"),
    ],
)
def test_bad_pyproject_is_refused_by_file(project: Project, text: str, error: type[Exception], says: str) -> None:
    """An error in [tool.hotlap] names the file."""
    start = project(text)
    with pytest.raises(error) as caught:
        load({}, {}, start)
    assert says in str(caught.value)
    assert "pyproject.toml" in str(caught.value)


@needs_toml
def test_only_the_nearest_pyproject_counts(project: Project) -> None:
    """A pyproject.toml further up is not looked at, even when the nearest has no [tool.hotlap]."""
    start = project("[tool.hotlap]\ninterval = 5\n")
    assert load({}, {}, start).interval == 5.0
    (start / "pyproject.toml").write_text("[project]\nname = 'hotlap-user'\n")
    assert load({}, {}, start).interval == 10.0


@needs_toml
def test_tables_for_sites_and_rules(project: Project) -> None:
    """Sites by name or pattern and rules by id are read from tables."""
    start = project(
        "[tool.hotlap.sites.'app.search']\nslo = '50ms'\n[tool.hotlap.sites.'app.*']\nslo = 2\n"
        "[tool.hotlap.rules.'time.slow']\nwarning = 3\nenabled = false\n"
    )
    made = load({}, {}, start)
    assert made.rules == {"time.slow": RuleConfig(warning=3.0, enabled=False)}
    assert made.site("app.search") == SiteConfig(slo=0.05)
    assert made.site("app.other") == SiteConfig(slo=2.0)
    assert made.site("lib.f") is None
    assert Config().site("app.search") is None


def test_tables_take_their_own_types_as_arguments() -> None:
    """What load returned can be given to load again."""
    made = load({"sites": {"f": {"slo": 1, "cpu": None}}, "rules": {"a.b": {"info": 2}}}, {}, "/")
    assert load({"sites": made.sites, "rules": made.rules}, {}, "/") == made


def test_the_slo_that_counts() -> None:
    """The configuration of the site, then the site's own, then the common one."""
    made = load({"slo": 3, "sites": {"f": {"slo": 1}, "g": {"cpu": [1, 2, 3, 4]}}}, {}, "/")
    assert made.slo_for("f", 2.0) == 1.0
    assert made.slo_for("g", 2.0) == 2.0
    assert made.slo_for("h", None) == 3.0
    assert Config().slo_for("h", None) is None


def test_sinks_may_be_names_callables_or_objects() -> None:
    """Anything that can take a cycle is accepted."""

    class Sink:
        def emit(self, cycle: object) -> None: ...

    sink = Sink()
    assert load({"sinks": ["otel", print, sink]}, {}, "/").sinks == ("otel", print, sink)


def test_options_that_may_be_none_take_none() -> None:
    """None takes back an SLO or throughput thresholds that a lower layer set."""
    made = load({"slo": None, "throughput_thresholds": None, "report_path": None}, {"HOTLAP_SLO": "1s"}, "/")
    assert made.slo is None
    assert made.report_path is None


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without arguments load reads os.environ and begins its search in the working directory."""
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOTLAP_BUDGET", "0.25")
    assert load().budget == 0.25


def test_without_a_toml_parser_a_note_says_so(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Python 3.10 without tomli, [tool.hotlap] is not read, and explain says that first."""
    monkeypatch.setattr(config, "_toml_parser", lambda: None)
    made = load({}, {}, project("[tool.hotlap]\ninterval = 5\n"))
    assert made.interval == 10.0
    assert "tomli" in str(explain(made)[0].value)
    assert load({}, {}, project("[project]\nname = 'hotlap'\n")).notes == ()


def test_a_toml_parser_is_found_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """tomllib, else tomli, else none."""

    def nothing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(config, "import_module", nothing)
    assert config._toml_parser() is None


def test_an_unreadable_pyproject_is_noted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read does not stop the program; explain tells of it."""
    start = project("[tool.hotlap]\ninterval = 5\n")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "Permission denied" in load({}, {}, start).notes[0]


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, ("auto", False)),
        ({"HOTLAP_CORE": "native", "HOTLAP_DISABLED": "1"}, ("native", True)),
        ({"HOTLAP_CORE": "", "HOTLAP_DISABLED": ""}, ("auto", False)),
        ({"HOTLAP_DISABLED": "false"}, ("auto", False)),
    ],
)
def test_two_options_are_read_early(env: dict[str, str], expected: tuple[str, bool]) -> None:
    """The core and the off switch are known while hotlap is imported."""
    assert early(env) == expected


@pytest.mark.parametrize("env", [{"HOTLAP_CORE": "rust"}, {"HOTLAP_DISABLED": "perhaps"}])
def test_early_options_are_checked(env: dict[str, str]) -> None:
    """A wrong value stops the import rather than choosing for the user."""
    with pytest.raises(OptionError):
        early(env)


def test_early_reads_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument os.environ is read."""
    monkeypatch.setenv("HOTLAP_CORE", "python")
    assert early().core == "python"


def test_config_imports_nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import hotlap` pays for config: numpy, difflib, tomllib wait until they are needed."""
    seen: list[str] = []
    real = builtins.__import__

    def spy(name: str, *args: Any, **more: Any) -> Any:
        seen.append(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", spy)
    saved = {name: sys.modules[name] for name in ("hotlap.config", "hotlap.readers", "hotlap.options", "hotlap.errors")}
    package = sys.modules["hotlap"]
    attributes = {name: getattr(package, name) for name in ("config", "readers", "options", "errors")}
    try:
        for name in saved:
            del sys.modules[name]
        importlib.import_module("hotlap.config")
    finally:
        sys.modules.update(saved)
        for name, value in attributes.items():
            setattr(package, name, value)
    assert not {"numpy", "difflib", "tomllib", "structlog", "opentelemetry", "psutil"} & set(seen)


def test_the_defaults_are_the_documented_ones() -> None:
    """20 records a second and site, 1 % of a core, 10,000 sites."""
    config = Config()
    assert (config.sample_rate, config.budget, config.max_sites) == (20.0, 0.01, 10_000)
    assert config.ring_capacity & (config.ring_capacity - 1) == 0
