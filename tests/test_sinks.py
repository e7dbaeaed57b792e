"""The ways out: what each sink makes of a cycle, and what becomes of one that fails."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys

import pytest
import structlog
from structlog.testing import capture_logs

from hotlap.config import Config
from hotlap.errors import OptionError, OptionTypeError
from hotlap.model import (
    BenchmarkResult,
    BenchmarkType,
    Context,
    Cycle,
    Exemplar,
    Finding,
    Metric,
    Part,
    Report,
    Score,
    Stats,
    TailCall,
    Verdict,
)
from hotlap.sinks import Guarded, Sink, jsonfile, make
from hotlap.sinks.jsonfile import FileSink
from hotlap.sinks.log import LogSink
from hotlap.sinks.memory import MemorySink


def finding(severity: float = 80.0, **changes) -> Finding:
    values = {
        "rule": "slow",
        "topic": "time",
        "site": "app.search",
        "severity": severity,
        "summary": "p95 is 0.8 s",
        "advice": "look at the query",
        "evidence": {"p95_s": 0.8, "samples": 40, "kind": "cpu"},
        "gain": "half of the time",
        "gain_s_per_hour": 12.5,
        "confidence": 0.9,
        "location": "app.py:12",
    }
    return Finding(**{**values, **changes})


def report(site: str = "app.search", findings: tuple[Finding, ...] = (), **stats) -> Report:
    values = {"calls": 40, "timed": 40, "errors": 2, "p95_s": 0.8, "total_s": 20.0, "type": BenchmarkType.CPU}
    part = Part("execution_time", 0.8, "s", 0.3, 0.5, 66.0, (0.1, 0.5, 1.0, 2.0))
    verdicts = (
        *(Verdict(found.rule, found) for found in findings),
        Verdict("tail", reason="not judged: {} samples, needs {}", judged=False, numbers=(3, 30)),
    )
    return Report(
        Stats(site=site, **{**values, **stats}),
        Score(66.0, BenchmarkResult.AVERAGE, (part,), ("memory_usage",)),
        verdicts,
    )


def cycle(*reports: Report, number: int = 7, **changes) -> Cycle:
    context = Context(rss_mb=120.0, records=50, sinks_failed=("otel",), rules_failed=("slow", "waiting"))
    values = {"started_at": 1_700_000_000.0, "window_s": 10.0, "context": context, "cost_s": 0.004}
    return Cycle(number=number, reports=reports, **{**values, **changes})


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
    with pytest.raises(OptionError, match="at least 1"):
        MemorySink(capacity=0)


def test_a_function_is_a_sink():
    seen: list[Cycle] = []
    (sink,) = make(Config(sinks=(seen.append,)))
    given = cycle()
    assert sink.emit(given)
    assert seen == [given]
    assert sink.name == "list.append"


# --- the file --------------------------------------------------------------------------------------------


def test_the_file_holds_the_newest_cycle_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "report.json"
    sink = FileSink(path)
    sink.emit(cycle(report(), number=1))
    sink.emit(cycle(report(findings=(finding(),)), number=2))
    document = jsonfile.read(path)
    assert document["number"] == 2
    assert document["context"]["rss_mb"] == 120.0
    (only,) = document["reports"]
    assert only["stats"]["type"] == "cpu"
    assert only["score"]["parts"][0]["thresholds"] == [0.1, 0.5, 1.0, 2.0]
    assert only["verdicts"][0]["finding"]["evidence"]["samples"] == 40
    assert only["verdicts"][1]["reason"] == "not judged: 3 samples, needs 30"
    assert only["verdicts"][1]["judged"] is False
    assert os.listdir(tmp_path) == ["report.json"]


def test_an_empty_cycle_does_not_take_away_what_there_is_to_read(tmp_path):
    """The last cycle of a program, cut when it stops, often has no calls."""
    path = tmp_path / "report.json"
    sink = FileSink(path)
    sink.emit(cycle(number=1))
    assert jsonfile.read(path)["number"] == 1
    sink.emit(cycle(report(), number=2))
    sink.emit(cycle(number=3))
    assert jsonfile.read(path)["number"] == 2


def test_trace_ids_are_hexadecimal_and_what_is_not_finite_is_null(tmp_path):
    path = tmp_path / "report.json"
    exemplar = Exemplar(0xABC, 0xDEF, 1_700_000_000_000_000_000, 0.8)
    call = TailCall("app.search", 1, 2, False, True, 0x1, 0x2, 33)
    FileSink(path).emit(cycle(report(slowest=(exemplar,), cpu_s=math.nan), tail_calls=(call,)))
    document = jsonfile.read(path)
    stats = document["reports"][0]["stats"]
    assert stats["slowest"][0]["trace_id"] == "00000000000000000000000000000abc"
    assert stats["slowest"][0]["span_id"] == "0000000000000def"
    assert stats["cpu_s"] is None
    assert document["tail_calls"][0]["span_id"] == "0000000000000002"
    assert document["tail_calls"][0]["thread"] == 33


def test_a_failed_write_leaves_the_old_file_and_no_part_of_a_new_one(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    sink = FileSink(path)
    sink.emit(cycle(number=1))

    def full(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        sink.emit(cycle(report(), number=2))
    assert jsonfile.read(path)["number"] == 1
    assert os.listdir(tmp_path) == ["report.json"]


def test_evidence_of_an_unknown_type_is_written_as_text(tmp_path):
    path = tmp_path / "report.json"
    FileSink(path).emit(cycle(report(findings=(finding(evidence={"when": 3 + 4j}),))))
    assert jsonfile.read(path)["reports"][0]["verdicts"][0]["finding"]["evidence"]["when"] == "(3+4j)"


def test_a_path_that_can_be_no_file_is_refused_at_once(tmp_path):
    with pytest.raises(OptionError, match="no existing directory"):
        FileSink(tmp_path / "missing" / "report.json")
    with pytest.raises(OptionError, match="is a directory"):
        FileSink(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("{", "cannot be read"),
        ("[]", "is no report of hotlap"),
        ('{"format": "hotlap.cycle", "version": 99}', "version 99"),
    ],
)
def test_reading_what_is_no_report_says_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(OptionError, match=message):
        jsonfile.read(path)


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
        ("structlogg", OptionError, "did you mean 'structlog'"),
        ("file", OptionError, "HOTLAP_REPORT_PATH"),
        (MemorySink, OptionTypeError, "give an instance"),
        (17, OptionTypeError, "17 is no sink"),
    ],
)
def test_what_is_no_sink_is_refused_with_the_fix(entry, error, message):
    with pytest.raises(error, match=message):
        make(Config(sinks=(entry,)))


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
    assert "mine sink failed in emit()" in record.getMessage()
    assert "ZeroDivisionError: no way out" in record.getMessage()
    assert repr(guarded) == "<mine sink, switched off>"


def test_an_error_in_close_is_logged_and_not_raised(caplog):
    failing = Failing()
    with caplog.at_level(logging.ERROR, "hotlap.sinks"):
        Guarded("mine", failing).close()
    assert failing.closed == 1
    assert "mine sink failed in close()" in caplog.text


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
