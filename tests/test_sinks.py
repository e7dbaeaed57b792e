"""The ways out: what each sink makes of a cycle, and what becomes of one that fails."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import subprocess
import sys

import pytest
import structlog
from structlog.testing import capture_logs

from cycles import cycle, finding, report
from hotlap.config import Config, load
from hotlap.errors import OptionError, OptionTypeError
from hotlap.model import (
    BenchmarkResult,
    Cycle,
    Metric,
    Part,
    Report,
    Score,
    Stats,
    Verdict,
)
from hotlap.sinks import Guarded, Sink, make
from hotlap.sinks.log import LogSink
from hotlap.sinks.memory import MemorySink


class Failing:
    def __init__(self) -> None:
        self.emitted = 0
        self.closed = 0

    def emit(self, cycle: Cycle) -> None:
        self.emitted += 1
        raise ZeroDivisionError("no way out")

    def close(self) -> None:
        self.closed += 1
        raise OSError("closed already")


# --- structlog -------------------------------------------------------------------------------------------


def test_each_site_is_a_report_event_with_its_numbers_as_fields():
    with capture_logs() as events:
        LogSink().emit(cycle(report(tags={"team": "search"}, parents={"app.main": 0.75, "app.job": 0.25})))
    (event,) = [event for event in events if event["event"] == "hotlap.report"]
    assert event["cycle"] == 7
    assert event["site"] == "app.search"
    assert event["type"] == "cpu"
    assert event["p95_s"] == 0.8
    assert event["calls"] == 40
    assert event["score"] == 66.0
    assert event["category"] == "average"
    assert event["points_execution_time"] == 66.0
    assert event["tag.team"] == "search"
    assert (event["parent"], event["parent_share"]) == ("app.main", 0.75)
    assert event["log_level"] == "info"


def test_every_event_says_of_which_cycle_and_process_it_is():
    with capture_logs() as events:
        LogSink().emit(cycle(report(findings=(finding(),))))
    assert [event["event"] for event in events] == ["hotlap.report", "hotlap.finding", "hotlap.cycle"]
    assert {(event["cycle"], event["pid"]) for event in events} == {(7, os.getpid())}


def test_floats_have_six_digits_and_stay_numbers():
    """Unix times and large numbers keep their whole part and thousandths; whole numbers stay whole."""
    stats = {
        "p50_s": 9.577233381155027e-06,
        "p99_s": 1 / 3,
        "throughput": 123456.7890123,
        "started_at": 1_795_447_471.1052232,
        "calls": 12_345_678,
        "cpu_s": math.nan,
        "metrics": {"rows": Metric(3, 1 / 7, -math.inf, 1e15 / 7)},
    }
    with capture_logs() as events:
        LogSink().emit(cycle(report(**stats), cost_s=0.00451119800163724))
    event = events[0]
    assert (event["p50_s"], event["p99_s"], event["throughput"]) == (9.57723e-06, 0.333333, 123456.789)
    assert event["started_at"] == 1_795_447_471.105
    assert (event["calls"], type(event["calls"])) == (12_345_678, int)
    assert math.isnan(event["cpu_s"])
    assert (event["metric.rows.total"], event["metric.rows.min"]) == (0.142857, -math.inf)
    assert event["metric.rows.max"] == round(1e15 / 7, 3)
    assert events[-1]["cost_s"] == 0.0045112


def test_a_cycle_in_which_no_call_ended_is_for_debugging():
    """An idle process fills no log; a finding about the process itself is one to tell of."""
    quiet, asked = LogSink(), LogSink(level="debug")
    with capture_logs() as events:
        quiet.emit(cycle())
    assert events == []
    with capture_logs() as events:
        asked.emit(cycle())
    assert [(event["event"], event["log_level"]) for event in events] == [("hotlap.cycle", "debug")]
    with capture_logs() as events:
        quiet.emit(cycle(Report(Stats(site="(process)"), Score(None, None), (Verdict("x", finding()),))))
    assert events[-1]["log_level"] == "info"


def test_a_field_without_evidence_is_left_out():
    with capture_logs() as events:
        LogSink().emit(cycle(report(cpu_s=None)))
    assert "cpu_s" not in events[0]
    assert not [name for name, value in events[0].items() if value is None]


def test_a_site_without_a_score_has_no_score_field():
    bare = Report(Stats(site="app.idle"), Score(None, None))
    with capture_logs() as events:
        LogSink().emit(cycle(bare))
    assert "score" not in events[0]
    assert "category" not in events[0]


def test_what_a_score_forgave_stands_beside_its_category():
    part = Part("success_rate", 0.7, "fraction", 0.15, 0.15, 20.0, (0.99, 0.95, 0.90, 0.80))
    forgiving = Report(Stats(site="app.pay"), Score(89.0, BenchmarkResult.GOOD, (part,)))
    with capture_logs() as events:
        LogSink().emit(cycle(forgiving, report()))
    assert events[0]["category"] == "good"
    assert events[0]["caveats"] == "30 % of its calls fail"
    assert "caveats" not in events[1]


def test_recorded_metrics_are_fields_of_the_report():
    with capture_logs() as events:
        LogSink().emit(cycle(report(metrics={"rows": Metric(4, 68.0, 1.0, 40.0)})))
    fields = {name: value for name, value in events[0].items() if name.startswith("metric.rows.")}
    assert fields == {
        "metric.rows.count": 4,
        "metric.rows.total": 68.0,
        "metric.rows.min": 1.0,
        "metric.rows.max": 40.0,
    }


def test_a_finding_is_an_event_and_a_warning_from_its_warning_limit_on():
    with capture_logs() as events:
        LogSink().emit(cycle(report(findings=(finding(74.9), finding(75.0, rule="waiting")))))
    found = [event for event in events if event["event"] == "hotlap.finding"]
    assert [(event["rule"], event["log_level"]) for event in found] == [
        ("waiting", "warning"),
        ("slow", "info"),
    ]
    assert found[0]["evidence.p95_s"] == 0.8
    assert found[0]["evidence.kind"] == "cpu"
    assert found[0]["gain_s_per_hour"] == 12.5
    assert found[0]["location"] == "app.py:12"


def test_a_cycle_ends_with_its_counts_and_the_state_of_the_process():
    with capture_logs() as events:
        LogSink().emit(cycle(report(findings=(finding(),)), report("app.other")))
    last = events[-1]
    assert last["event"] == "hotlap.cycle"
    assert (last["sites"], last["calls"], last["errors"], last["findings"]) == (2, 80, 4, 1)
    assert last["rss_mb"] == 120.0
    assert last["sinks_failed"] == "otel"
    assert last["rules_failed"] == "slow,waiting"
    assert "rss_slope_mb_s" not in last
    assert not [name for name, value in last.items() if not isinstance(value, (str, int, float))]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["hotlap.report", "hotlap.finding", "hotlap.finding", "hotlap.cycle"]),
        ("info", ["hotlap.report", "hotlap.finding", "hotlap.finding", "hotlap.cycle"]),
        ("warning", ["hotlap.finding"]),
        ("error", []),
    ],
)
def test_events_below_the_level_are_left_out(level, expected):
    with capture_logs() as events:
        LogSink(level=level).emit(cycle(report(findings=(finding(90.0), finding(30.0)))))
    assert [event["event"] for event in events] == expected


def test_without_a_configuration_of_the_host_nothing_goes_to_stdout(capsys):
    structlog.reset_defaults()
    LogSink().emit(cycle(report()))
    out, err = capsys.readouterr()
    assert out == ""
    assert "hotlap.report" in err
    assert "hotlap.cycle" in err


def test_lines_of_several_processes_do_not_run_into_each_other(monkeypatch):
    """An event goes out in one write, with the end of its line: forked workers share the file."""
    written: list[str] = []

    class File(io.StringIO):
        def write(self, text):
            written.append(text)
            return len(text)

    structlog.reset_defaults()
    monkeypatch.setattr(sys, "stderr", File())
    LogSink().emit(cycle(report()))
    assert len(written) == 2
    assert all(text.endswith("\n") and text.count("\n") == 1 for text in written)


def test_the_configuration_of_the_host_is_used_even_when_it_comes_late(capsys):
    sink = LogSink()
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    try:
        sink.emit(cycle(report()))
    finally:
        structlog.reset_defaults()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["hotlap.report", "hotlap.cycle"]
    assert lines[0]["p95_s"] == 0.8


# --- memory and functions --------------------------------------------------------------------------------


def test_memory_keeps_the_last_cycles_and_counts_the_others():
    sink = MemorySink(capacity=2)
    for number in range(5):
        sink.emit(cycle(report(findings=(finding(),)), number=number))
    assert [kept.number for kept in sink.cycles] == [3, 4]
    assert sink.dropped == 3
    assert [kept.site for kept in sink.reports] == ["app.search"] * 2
    assert [kept.rule for kept in sink.findings] == ["slow"] * 2
    sink.clear()
    assert sink.cycles == ()
    assert sink.dropped == 0


def test_memory_of_nothing_is_refused():
    with pytest.raises(OptionError, match=r"capacity=0 is not allowed: .* at least 1"):
        MemorySink(capacity=0)


@pytest.mark.parametrize("capacity", ["10", 1.5, True, None])
def test_memory_holds_a_whole_number_of_cycles(capacity):
    with pytest.raises(OptionTypeError, match=f"capacity={capacity!r} has the wrong type"):
        MemorySink(capacity=capacity)


def test_a_function_is_a_sink():
    seen: list[Cycle] = []
    (sink,) = make(Config(sinks=(seen.append,)))
    given = cycle()
    assert sink.emit(given)
    assert seen == [given]
    assert sink.name == "list.append"


# --- making them -----------------------------------------------------------------------------------------


def test_the_default_sinks_are_structlog_and_opentelemetry():
    assert [sink.name for sink in make(Config())] == ["structlog", "otel"]


def test_options_reach_the_sinks(tmp_path):
    path = str(tmp_path / "report.json")
    config = Config(
        sinks=("structlog", "otel", "memory", "file"), log_level="warning", tail_spans=True, report_path=path
    )
    log, otel, memory, file = make(config)
    assert log.sink.level == "warning"
    assert otel.sink.tail_spans is True
    assert isinstance(memory.sink, MemorySink)
    assert str(file.sink.path) == path


def test_a_report_path_alone_adds_the_file(tmp_path):
    path = str(tmp_path / "report.json")
    assert [sink.name for sink in make(Config(sinks=(), report_path=path))] == ["file"]
    assert [sink.name for sink in make(Config(sinks=("file",), report_path=path))] == ["file"]


def test_an_object_with_emit_is_a_sink():
    own = MemorySink()
    (sink,) = make(Config(sinks=(own,)))
    assert sink.sink is own
    assert sink.name == "MemorySink"
    assert isinstance(own, Sink)


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("structlogg", OptionError, "sinks has 'structlogg', which is no sink: did you mean 'structlog'?"),
        (
            "nope",
            OptionError,
            "'nope', which is no sink: give 'structlog', 'otel', 'memory', 'file', an",
        ),
        ("file", OptionError, "sinks has 'file', which has no file to write to: set report_path"),
        (MemorySink, OptionTypeError, "give an instance"),
        (17, OptionTypeError, "sinks has 17, which is no sink: give "),
    ],
)
def test_what_is_no_sink_is_refused_with_the_fix(entry, error, message):
    with pytest.raises(error) as caught:
        make(Config(sinks=(entry,)))
    assert message in str(caught.value)


def test_what_is_refused_is_named_as_it_was_set():
    """A variable of the environment by its own name."""
    with pytest.raises(OptionError, match=r"^HOTLAP_SINKS has 'nope'"):
        make(load({}, {"HOTLAP_SINKS": "nope"}, "/"))
    with pytest.raises(OptionError, match=r"^HOTLAP_REPORT_PATH='/no/where' is in no existing directory"):
        make(load({}, {"HOTLAP_REPORT_PATH": "/no/where"}, "/"))


def test_structlog_and_opentelemetry_are_imported_only_by_their_sinks():
    code = (
        "import sys, hotlap.sinks, hotlap.sinks.memory, hotlap.sinks.jsonfile, hotlap.sinks.call\n"
        "print([name for name in ('structlog', 'opentelemetry', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- failing ---------------------------------------------------------------------------------------------


def test_a_failing_sink_is_logged_once_counted_and_switched_off(caplog):
    failing = Failing()
    guarded = Guarded("mine", failing)
    with caplog.at_level(logging.ERROR, "hotlap.sinks"):
        assert [guarded.emit(cycle()) for _ in range(3)] == [False] * 3
        guarded.close()
    assert failing.emitted == 1
    assert guarded.off
    assert guarded.missed == 3
    assert guarded.failures == 2  # one in emit, one in close
    (record,) = caplog.records
    assert record.getMessage() == (
        "the mine sink failed in emit() and is switched off until hotlap is stopped and started again: "
        "ZeroDivisionError: no way out"
    )
    assert repr(guarded) == "<mine sink, switched off>"


def test_an_error_in_close_is_logged_and_not_raised(caplog):
    failing = Failing()
    with caplog.at_level(logging.ERROR, "hotlap.sinks"):
        Guarded("mine", failing).close()
    assert failing.closed == 1
    assert "the mine sink failed in close(): OSError: closed already" in caplog.text


def test_a_sink_without_close_needs_none():
    guarded = Guarded("memory", MemorySink())
    guarded.close()
    assert not guarded.off
    assert repr(guarded) == "<memory sink>"


def test_an_interrupt_is_not_swallowed():
    def interrupt(cycle):
        raise KeyboardInterrupt

    (sink,) = make(Config(sinks=(interrupt,)))
    with pytest.raises(KeyboardInterrupt):
        sink.emit(cycle())
