"""The file sink: the newest cycle as JSON, and reading it again."""

from __future__ import annotations

import math
import os

import pytest

from cycles import cycle, finding, report
from hotlap.errors import OptionError
from hotlap.model import Exemplar, TailCall
from hotlap.sinks import jsonfile
from hotlap.sinks.jsonfile import FileSink


def test_the_file_holds_the_newest_cycle_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "report.json"
    sink = FileSink(path)
    sink.emit(cycle(report(), number=1))
    sink.emit(cycle(report(findings=(finding(),)), number=2))
    document = jsonfile.read(path)
    assert (document["number"], document["pid"]) == (2, os.getpid())
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


def test_the_file_has_numbers_in_full(tmp_path):
    path = tmp_path / "report.json"
    FileSink(path).emit(cycle(report(p95_s=1 / 3)))
    assert jsonfile.read(path)["reports"][0]["stats"]["p95_s"] == 1 / 3


def test_each_process_may_have_a_file_of_its_own(tmp_path):
    """{pid} in the name of the file is filled in when it is written: after a fork it is another one."""
    FileSink(tmp_path / "report-{pid}.json").emit(cycle(report()))
    assert os.listdir(tmp_path) == [f"report-{os.getpid()}.json"]


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
    with pytest.raises(OptionError, match=r"report_path=.* is a directory"):
        FileSink(tmp_path)
    with pytest.raises(OptionError, match=r"^--save=.* is in no existing directory"):
        FileSink(tmp_path / "missing" / "report.json", "--save")


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
