"""Measured callables in what runs them: threads, process pools, frameworks, and at the end of the stack."""

from __future__ import annotations

import asyncio
import builtins
import os
import subprocess
import sys
import textwrap
import threading
import typing
from pathlib import Path
from typing import Any

import pytest

from hotlap import core
from hotlap.probe import benchmark

native_only = pytest.mark.skipif(core.NAME != "native", reason="what only the native core can do")


def calls(measured: Any) -> int:
    count: int = measured._self_site.read()[0]
    return count


@benchmark
def by_name(x: int) -> int:
    return x + 1


def script(tmp_path: Path, **files: str) -> str:
    """Run `main` of these modules in a process of its own; what it printed."""
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(tmp_path / "main.py")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "HOTLAP_CORE": core.NAME},
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-3000:])
    return done.stdout


class TestRecursion:
    @pytest.mark.parametrize(
        "define",
        [
            "@benchmark\ndef f(n): return f(n + 1)",
            "class C:\n    @benchmark\n    def f(self, n): return self.f(n + 1)\nf = C().f",
            "@benchmark\ndef g(n): yield from g(n + 1)\nf = lambda n: list(g(n))",
            "@benchmark\nasync def g(n): return await g(n + 1)\ndef f(n): g(n).send(None)",
            "class C:\n    @benchmark\n    def __call__(self, n): return self(n + 1)\nf = benchmark(C())",
            "import functools\n@benchmark\ndef g(n): return f(n + 1)\nf = benchmark(functools.partial(g))",
        ],
        ids=["function", "method", "generator", "coroutine", "instance", "partial"],
    )
    def test_deep(self, tmp_path: Path, define: str) -> None:
        """Recursion without end is a RecursionError, whatever the limit, and everything works afterwards."""
        main = (
            "import sys\nfrom hotlap.probe import benchmark\nsys.setrecursionlimit(LIMIT)\n"
            f"{define}\n"
            "for _ in range(2):\n"
            "    try:\n        f(0)\n"
            "    except RecursionError:\n        print('RecursionError')\n"
        )
        # The Python core cannot see how much of the C stack wrapt's calls have used.
        for limit in ("1000", "200_000") if core.NAME == "native" else ("1000",):
            assert script(tmp_path, main=main.replace("LIMIT", limit)).split() == ["RecursionError"] * 2

    @native_only
    def test_deep_in_a_thread(self, tmp_path: Path) -> None:
        """A thread's smaller stack is known too."""
        main = """
            import sys, threading
            from hotlap.probe import benchmark
            sys.setrecursionlimit(200_000)

            @benchmark
            def f(n):
                return f(n + 1)

            def run():
                try:
                    f(0)
                except RecursionError:
                    print("RecursionError")

            threading.stack_size(1 << 20)
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        """
        assert script(tmp_path, main=main).split() == ["RecursionError"]

    def test_ordinary_depth(self) -> None:
        """An ordinary recursion fits into the usual limit, and each level counts."""

        @benchmark
        def depth(n: int) -> int:
            return n if n == 0 else 1 + depth(n - 1)

        assert depth(150) == 150
        assert calls(depth) == 151


class TestThreadsAndProcesses:
    def test_threads(self) -> None:
        """Calls from many threads are all counted."""
        f = benchmark(lambda: None, name="transparency.threads")
        start = threading.Barrier(4)

        def run() -> None:
            start.wait()
            for _ in range(2_000):
                f()

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert calls(f) == 8_000

    @pytest.mark.parametrize("method", ["spawn", "fork"])
    def test_pools(self, tmp_path: Path, method: str) -> None:
        """Measured functions, methods and callables go to worker pools, and are measured there."""
        jobs = """
            import functools
            from hotlap.probe import benchmark, sites

            @benchmark
            def double(x):
                return 2 * x

            class Model:
                def __init__(self, n):
                    self.n = n
                @benchmark
                def run(self, x):
                    return self.n * x
                @benchmark
                @staticmethod
                def static(x):
                    return -x

            class Scale:
                def __call__(self, x):
                    return 10 * x

            scale = benchmark(Scale(), name="scale")
            part = benchmark(functools.partial(max, 3), name="part")

            @benchmark
            def fails(x):
                raise KeyError(x)

            def counted(name):
                return sites[name].read()[0]
        """
        main = f"""
            import concurrent.futures, multiprocessing, warnings
            import jobs

            def use(pool):
                print(pool.map(jobs.double, [1, 2, 3]), pool.map(jobs.Model(5).run, [1, 2]))
                print(pool.map(jobs.Model.static, [1, 2]), pool.map(jobs.scale, [1]))
                print(pool.map(jobs.part, [1, 5]))
                print(pool.map(jobs.counted, ["jobs.double", "jobs.Model.run", "scale", "part"], chunksize=4))
                try:
                    pool.map(jobs.fails, ["key"])
                except KeyError as error:
                    print(error)

            if __name__ == "__main__":
                warnings.filterwarnings("ignore", category=DeprecationWarning)  # fork with threads
                jobs.double(1)
                context = multiprocessing.get_context({method!r})
                with context.Pool(1) as pool:
                    use(pool)
                with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                    print(list(pool.map(jobs.double, [1, 2])), pool.submit(jobs.Model(2).run, 4).result())
        """
        out = script(tmp_path, jobs=jobs, main=main).splitlines()
        inherited = 1 if method == "fork" else 0
        counted = [int(n) for n in out[3].strip("[]").split(",")]
        assert out[:3] == ["[2, 4, 6] [5, 10]", "[-1, -2] [10]", "[3, 5]"]
        assert counted[1:] == [2, 1, 2]
        assert counted[0] in (3, 3 + inherited)  # the recorder clears what a child inherits, if there is one
        assert out[4:] == ["'key'", "[2, 4] 8"]

    def test_thread_pool_and_executor(self) -> None:
        """Executors and run_in_executor take measured functions."""
        import concurrent.futures

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            assert list(pool.map(by_name, [1, 2])) == [2, 3]

            async def main() -> tuple[int, int]:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(pool, by_name, 4), await asyncio.to_thread(by_name, 5)

            assert asyncio.run(main()) == (5, 6)


class TestFrameworks:
    def test_fastapi(self) -> None:
        """FastAPI reads path, query and body parameters, dependencies and the return type."""
        fastapi = pytest.importorskip("fastapi")
        httpx = pytest.importorskip("httpx")
        app = fastapi.FastAPI()

        @benchmark
        def user(token: str = "none") -> str:
            return f"user {token}"

        User = typing.Annotated[str, fastapi.Depends(user)]
        Query = typing.Annotated[int, fastapi.Query(ge=1)]

        def route(item: int, who: str, q: int = 2) -> dict[str, Any]:
            """Doc of route."""
            return {"item": item, "who": who, "q": q}

        async def later_route(item: int, who: str, q: int = 2) -> dict[str, Any]:
            await asyncio.sleep(0)
            return {"item": item, "who": who, "q": q}

        for func in (route, later_route):
            func.__annotations__ = {"item": int, "who": User, "q": Query, "return": dict[str, int | str]}
            app.get(f"/plain/{func.__name__}/{{item}}")(func)
            app.get(f"/measured/{func.__name__}/{{item}}")(benchmark(func))

        async def ask(path: str) -> tuple[int, Any]:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                answer = await client.get(path)
                return answer.status_code, answer.json()

        async def main() -> Any:
            for name in ("route", "later_route"):
                for tail in ("1?q=5&token=t", "7", "x", "1?q=0"):
                    expected, found = (
                        await ask(f"/plain/{name}/{tail}"),
                        await ask(f"/measured/{name}/{tail}"),
                    )
                    assert found[0] == expected[0]
                    assert found[0] == 422 or found == expected
            code, answer = await ask("/measured/route/1?q=5&token=t")
            assert (code, answer) == (200, {"item": 1, "who": "user t", "q": 5})
            return (await ask("/openapi.json"))[1]["paths"]

        paths = asyncio.run(main())
        for name in ("route", "later_route"):
            seen = [paths[f"/{kind}/{name}/{{item}}"]["get"] for kind in ("plain", "measured")]
            for operation in seen:
                operation.pop("operationId")
                operation["responses"]["200"]["content"]["application/json"]["schema"].pop("title")
            assert seen[0] == seen[1]

    def test_pytest(self, tmp_path: Path) -> None:
        """pytest finds fixtures and parameters in the signature of measured tests and fixtures."""
        (tmp_path / "test_it.py").write_text(
            textwrap.dedent("""
            import pytest
            from hotlap.probe import benchmark, sites

            @pytest.fixture
            @benchmark
            def base(tmp_path):
                yield 1

            @pytest.mark.parametrize("n", [1, 2])
            @benchmark
            def test_one(base, n):
                assert n >= base

            class TestIt:
                @benchmark
                @pytest.mark.parametrize("n", [1, 2])
                def test_two(self, base, n):
                    assert n >= base

            def test_counted():
                names = ("base", "test_one", "TestIt.test_two")
                assert [sites[f"test_it.{name}"].read()[0] for name in names] == [4, 2, 2]
            """)
        )
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "5 passed" in done.stdout, done.stdout + done.stderr

    def test_builtin_protocols(self) -> None:
        """map, filter, sorted, iter and property take measured functions as they take others."""
        double = benchmark(lambda x: 2 * x)
        assert list(map(double, [1, 2])) == [2, 4]
        assert list(filter(double, [0, 1])) == [1]
        assert max([1, -3], key=benchmark(abs)) == -3
        assert list(iter(benchmark(iter([1, 2, 0]).__next__), 0)) == [1, 2]
        assert builtins.callable(double)
