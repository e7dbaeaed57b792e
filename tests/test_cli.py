"""The command line: what each command shows, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from opentelemetry import trace
from rich.console import Console

import hotlap
from hotlap import cli, core, monitor
from hotlap.cli import demo as demo_command
from hotlap.cli import doctor, report
from hotlap.cli.config import as_text
from hotlap.config import explain, load
from hotlap.demo import Summary
from hotlap.errors import HotlapError, LayoutError
from hotlap.model import BenchmarkResult, Context, Cycle, Finding, Report, Score, Stats, Verdict
from hotlap.sinks.jsonfile import FileSink
from hotlap.testing import fake_clock

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command sets when it starts the recorder is not left to the next test."""
    monkeypatch.setattr(monitor, "_options", {})


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in this process; gives exit code, output and error output."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


def finding(severity: float, site: str = "shop.pay", rule: str = "time.slow") -> Finding:
    return Finding(
        rule=rule,
        topic="time",
        site=site,
        severity=severity,
        summary="Half of the calls take longer than 1.2 s.",
        advice="Look at what it waits for.",
        evidence={"p50_s": 1.2, "samples": 4200, "kind": "wall"},
        gain="1 minute an hour.",
        confidence=0.8,
        location="shop/pay.py:12",
    )


def cycle(number: int, *verdicts: Verdict, site: str = "shop.pay", calls: int = 10, **context: float) -> Cycle:
    stats = Stats(site=site, calls=calls, errors=1, total_s=0.5 * calls, mean_s=0.5, p50_s=0.4, p99_s=2.0)
    score = Score(72.4, BenchmarkResult.AVERAGE)
    about = Context(records=5, records_lost=1, **context)  # type: ignore[arg-type]
    reports = (Report(stats, score, verdicts),)
    return Cycle(number=number, started_at=0.0, window_s=2.0, reports=reports, context=about, cost_s=number / 1000)


def found(severity: float, rule: str = "time.slow") -> Verdict:
    return Verdict(rule, finding=finding(severity, rule=rule))


def fine(rule: str = "time.slow") -> Verdict:
    return Verdict(rule, None, "within limits: p50 is 0.4 s")


def unknown(rule: str = "time.slow") -> Verdict:
    return Verdict(rule, None, "not judged: 3 samples, needs 30", judged=False)


def text(*parts: object) -> str:
    console = Console(width=200, highlight=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return capture.get()


class TestMain:
    def test_version(self, run: Run) -> None:
        """--version names the version and ends well."""
        code, out, _ = run("--version")
        assert code == 0
        assert out == f"hotlap {hotlap.__version__}\n"

    def test_no_command_shows_the_commands(self, run: Run) -> None:
        """Without a command the help lists all of them."""
        _, out, err = run()
        for command in ("demo", "doctor", "config", "rules"):
            assert command in out + err

    @pytest.mark.parametrize(
        "wrong",
        [["dmo"], ["demo", "--seconds", "soon"], ["demo", "--seconds", "0"], ["rules", "--site", "x"]],
    )
    def test_wrong_usage_ends_with_2(self, run: Run, wrong: Sequence[str]) -> None:
        """An unknown command, a wrong value and a missing option are said on standard error."""
        code, _, err = run(*wrong)
        assert code == 2
        assert err

    def test_without_the_extra_it_says_how_to_install_it(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """One line with the exact command, exit code 2."""
        monkeypatch.setitem(sys.modules, "typer", None)
        monkeypatch.delitem(sys.modules, "hotlap.cli.app", raising=False)
        assert run("doctor") == (
            2,
            "",
            "hotlap: the command line needs typer and rich: pip install 'hotlap[cli]'\n",
        )

    def test_another_missing_module_is_no_missing_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is broken in another way shows as what it is."""
        monkeypatch.setitem(sys.modules, "hotlap.cli.app", None)
        with pytest.raises(ModuleNotFoundError, match=r"hotlap\.cli\.app"):
            cli.main([])

    def test_an_error_of_ours_is_one_line(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """A wrong option ends with 2, any other error of hotlap with 1, both without a traceback."""
        monkeypatch.setenv("HOTLAP_INTERVALL", "3")
        code, out, err = run("config")
        assert (code, out) == (2, "")
        assert err.startswith("hotlap: HOTLAP_INTERVALL ")
        assert "HOTLAP_INTERVAL" in err

        def broken() -> HotlapError:
            raise LayoutError("records of version 7")

        monkeypatch.delenv("HOTLAP_INTERVALL")
        monkeypatch.setattr("hotlap.cli.config.load", broken)
        assert run("config") == (1, "", "hotlap: records of version 7\n")

    def test_python_m_hotlap(self) -> None:
        """`python -m hotlap` is the command too."""
        done = subprocess.run(
            [sys.executable, "-m", "hotlap", "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout.startswith("hotlap ")


class TestDoctor:
    def test_says_what_it_measures_with(self, run: Run) -> None:
        """Core with its reason, clock, costs, versions and extras are all there."""
        code, out, _ = run("doctor")
        assert code == 0
        for said in (core.NAME, core.REASON, core.clock()["kind"], "layout version 1", "16,384 records"):
            assert str(said) in out
        for name in (
            "measuring a call",
            "clock error",
            "free-threaded",
            "wrapt",
            "numpy",
            "structlog",
            "psutil",
        ):
            assert name in out

    def test_names_missing_extras_with_the_install_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An extra that lacks a distribution is missing, with the command; developers' extras do not show."""
        lines = [
            "wrapt>=2",
            'typer>=0.15; extra == "cli"',
            "no-such-thing; extra == 'web'",
            'x; extra == "dev"',
        ]
        monkeypatch.setattr(doctor, "requires", lambda name: lines)
        rows = {name: (value, note) for name, value, note in doctor._extras()}
        assert rows == {
            "extra cli": ("installed", "typer"),
            "extra web": ("missing", "without no-such-thing: pip install 'hotlap[web]'"),
        }

    def test_a_source_tree_has_no_metadata(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not installed: no extras are known, and the version says so."""

        def requires(name: str) -> list[str]:
            raise doctor.PackageNotFoundError(name)

        monkeypatch.setattr(doctor, "requires", requires)
        monkeypatch.setattr(doctor, "version", lambda name: None)
        assert doctor.extras() == {}
        assert ("hotlap", hotlap.__version__, "runs from a source tree") in list(doctor._dependencies())
        assert ("wrapt", "missing", "pip install wrapt") in list(doctor._dependencies())

    def test_tells_whether_spans_go_anywhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The API's stand-in is no SDK; a provider of anybody else is named."""
        monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
        assert [row[1] for row in doctor._telemetry()] == ["not configured"]

        class Provider: ...

        monkeypatch.setattr(trace, "get_tracer_provider", Provider)
        ((_, value, note),) = doctor._telemetry()
        assert value == "configured"
        assert note.endswith("Provider")

    def test_an_unknown_kernel_clock_is_said(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Where the kernel does not tell its clock source, that is no error."""
        monkeypatch.setattr(doctor, "_CLOCK_SOURCE", tmp_path / "none")
        assert ("kernel clock source", "unknown") in [row[:2] for row in doctor._clock()]


class TestConfig:
    def test_shows_each_option_and_where_its_value_comes_from(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Default, pyproject.toml and environment are told apart."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOTLAP_INTERVAL", "2.5s")
        code, out, _ = run("config")
        assert code == 0
        rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
        assert {row.name for row in explain(load())} <= set(rows)
        assert "2.5" in rows["interval"]
        assert "environment HOTLAP_INTERVAL" in rows["interval"]
        assert "default" in rows["budget"]
        assert "HOTLAP_BUDGET" in rows

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (None, "none"),
            ((), "none"),
            ({}, "none"),
            (True, "true"),
            (False, "false"),
            ((0.1, "a", 2), "0.1, a, 2"),
            ({"shop.*": 1, "b": 2}, "shop.*, b"),
            (10.0, "10"),
            (16384, "16384"),
        ],
    )
    def test_values_read_as_they_are_written(self, value: object, shown: str) -> None:
        """A value is shown as it would be set."""
        assert as_text(value) == shown


class TestReport:
    def test_a_finding_lasts_when_most_judged_windows_have_it(self) -> None:
        """Half of the judged windows are enough; windows that could not be judged do not count."""
        cycles = [cycle(1, found(40)), cycle(2, fine()), cycle(3, unknown()), cycle(4, found(60))]
        (one,) = report.lasting(cycles)
        assert (one.finding.severity, one.windows, one.judged) == (60, 2, 3)

    def test_a_finding_of_one_window_is_chance(self) -> None:
        """One of three is left out, and so is one below the info limit."""
        assert report.lasting([cycle(1, found(90)), cycle(2, fine()), cycle(3, fine())]) == []
        assert report.lasting([cycle(1, found(24.9))]) == []

    def test_the_worst_comes_first(self) -> None:
        """Findings are sorted by severity, and each shows its evidence, advice and place."""
        cycles = [cycle(1, found(30, "a.mild"), found(80, "b.bad"))]
        shown = text(*report.findings(report.lasting(cycles)))
        assert shown.index("warning 80  b.bad  shop.pay  shop/pay.py:12") < shown.index("info 30  a.mild")
        assert "Evidence: p50_s 1.2, samples 4,200, kind wall" in shown
        assert "Look at what it waits for." in shown
        assert "Confidence 80 %; in 1 of 1 window." in shown

    def test_no_findings_is_said(self) -> None:
        """Nothing found is a line of its own."""
        assert text(*report.findings([])) == "no findings\n"

    def test_scores_add_up_the_windows(self) -> None:
        """Calls, errors and time are those of all windows; the site with the most time comes first."""
        lines = text(report.scores([cycle(1, calls=10), cycle(2, calls=20), cycle(2, site="b", calls=1)])).splitlines()
        (first, second) = (line for line in lines if line.startswith(("shop.pay", "b ")))
        assert first.split() == [
            "shop.pay",
            "30",
            "2",
            "15",
            "s",
            "400",
            "ms",
            "2",
            "s",
            "-",
            "72",
            "average",
        ]
        assert second.split()[:2] == ["b", "1"]

    def test_what_has_no_score_has_a_dash(self) -> None:
        """No evidence is no zero."""
        bare = Report(Stats(site="x", cpu_percent=12.0), Score(None, None))
        one = Cycle(number=1, started_at=0, window_s=1, reports=(bare,), context=Context())
        assert text(report.scores([one])).splitlines()[-1].split()[-4:] == ["12", "%", "-", "-"]

    def test_the_cost_is_what_the_recorder_measured(self) -> None:
        """Mean and worst share of a core, the budget, the longest cycle, and what was lost."""
        cycles = [cycle(1, overhead_fraction=0.001), cycle(2, overhead_fraction=0.003), cycle(3)]
        assert report.cost(cycles) == [
            "0.2 % of one core on average, 0.3 % in the worst window (budget 1 %)",
            "3 cycles, the longest 3 ms; 15 records read, 3 lost",
        ]
        bare = Report(Stats(site="x", counting=True), Score(None, None))
        counted = Cycle(number=1, started_at=0, window_s=1, reports=(bare,), context=Context())
        assert report.cost([counted])[-1].endswith("counted and not timed for a while: x")
        assert report.cost([]) == ["nothing was measured: there was no cycle"]

    def test_the_fullest_cycle_has_the_most_sites_then_calls(self) -> None:
        """A short last window does not stand for the run."""
        small, large = cycle(2, calls=1), cycle(1, calls=9)
        assert report.fullest([small, large]) is large


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A report file with one site."""
    path = tmp_path / "report.json"
    FileSink(path).emit(cycle(1, found(80), unknown("cpu.bound"), fine("time.tail")))
    return path


class TestRules:
    def test_lists_each_rule_with_its_limits(self, run: Run) -> None:
        """Every rule that is applied is in the list."""
        code, out, _ = run("rules")
        assert code == 0
        for rule in ("time.slow", "time.tail", "cpu.bound", "io.waiting", "errors.rate", "recorder.lost"):
            assert rule in out

    def test_says_what_each_rule_says_about_a_site(self, run: Run, saved: Path) -> None:
        """Finding, within limits, or not judged: each with its reason."""
        code, out, _ = run("rules", "--report", str(saved), "--site", "shop.pay")
        assert code == 0
        verdicts = {line.split()[0]: line for line in out.splitlines() if "." in line.partition(" ")[0]}
        assert "finding" in verdicts["time.slow"]
        assert "Half of the calls" in verdicts["time.slow"]
        assert "not judged" in verdicts["cpu.bound"]
        assert "3 samples, needs 30" in verdicts["cpu.bound"]
        assert "within limits" in verdicts["time.tail"]
        assert "p50 is 0.4 s" in verdicts["time.tail"]

    def test_a_report_without_a_site_lists_the_sites(self, run: Run, saved: Path) -> None:
        """The sites of the file, with how many findings they have."""
        code, out, _ = run("rules", "--report", str(saved))
        assert code == 0
        assert any(line.split()[:2] == ["shop.pay", "10"] for line in out.splitlines())

    def test_an_unknown_site_is_an_error_with_the_nearest_names(self, run: Run, saved: Path) -> None:
        """What was meant is in the message; far off, all sites are."""
        code, _, err = run("rules", "--report", str(saved), "--site", "shop.pya")
        assert code == 2
        assert "'shop.pya'" in err
        assert "shop.pay" in err
        assert "shop.pay" in run("rules", "--report", str(saved), "--site", "zzz")[2]

    def test_a_site_needs_a_report(self, run: Run, tmp_path: Path) -> None:
        """Verdicts are about measurements: without a file there are none, and a missing file is named."""
        code, _, err = run("rules", "--site", "shop.pay")
        assert code == 2
        assert "--report" in err
        code, _, err = run("rules", "--report", str(tmp_path / "none.json"), "--site", "shop.pay")
        assert code == 2
        assert "none.json" in err


class TestDemo:
    @pytest.mark.slow
    def test_shows_sites_findings_and_cost_and_saves_the_reports(self, run: Run, tmp_path: Path) -> None:
        """Plain lines where there is no terminal; the saved file is what `hotlap rules` reads."""
        path = tmp_path / "demo.json"
        hotlap.start(sinks=[])
        hotlap.stop()  # what other tests called is not in the demo's first window
        code, out, err = run("demo", "--seconds", "2", "--save", str(path))
        assert (code, err) == (0, "")
        for part in (
            "files indexed",
            "Sites",
            "Findings",
            "The recorder's own cost",
            "a cycle every 1 s here, every 10 s by default",
            "of one core",
            "budget 1 %",
        ):
            assert part in out
        document = json.loads(path.read_text())
        assert "search" in {each["stats"]["site"] for each in document["reports"]}
        assert run("rules", "--report", str(path), "--site", "search")[0] == 0

    def test_a_directory_that_is_not_there_is_refused_at_once(self, run: Run, tmp_path: Path) -> None:
        """Not after twenty seconds of work."""
        code, _, err = run("demo", "--save", str(tmp_path / "none" / "demo.json"))
        assert code == 2
        assert err.startswith(f"hotlap: --save='{tmp_path}/none/demo.json' is in no existing directory")

    def test_a_python_without_sqlite_is_told(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some builds lack sqlite3 or lzma: one line, no traceback."""
        for name in [name for name in sys.modules if name.startswith("hotlap.demo")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "sqlite3", None)
        code, _, err = run("demo")
        assert (code, err) == (1, "hotlap: the demo needs sqlite3, which this Python was built without\n")

    def test_with_recording_off_it_says_so(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """No report is no empty table."""
        monkeypatch.setattr(hotlap, "start", lambda **config: None)
        monkeypatch.setattr(hotlap, "stop", lambda: None)
        monkeypatch.setattr("hotlap.demo.run", lambda seconds, done, after_round: after_round())
        code, out, _ = run("demo", "--seconds", "0.1")
        assert code == 0
        assert "Nothing was recorded: the log says what failed." in out
        monkeypatch.setenv("HOTLAP_DISABLED", "1")
        assert "Nothing was recorded: HOTLAP_DISABLED is set." in run("demo", "--seconds", "0.1")[1]

    def test_ctrl_c_ends_it_with_the_report(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was measured until then is shown."""

        def interrupted(*args: object, **options: object) -> None:
            with hotlap.measure("cut short"):
                pass
            raise KeyboardInterrupt

        monkeypatch.setattr("hotlap.demo.run", interrupted)
        code, out, _ = run("demo")
        assert code == 0
        assert "cut short" in out

    def test_on_a_terminal_there_is_a_live_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The busiest sites as they are now."""
        with fake_clock() as clock, hotlap.measure("shown live"):
            clock.now_ns += 3600 * 10**9  # the table has room for the busiest alone
        assert "shown live" in text(demo_command._live_table())
        console = Console(force_terminal=True, width=120)
        with (
            console.capture() as capture,
            demo_command._progress(console, 0.0, 1.0, Summary()) as shown,
        ):
            shown()
        assert "0 files indexed" in capture.get()
