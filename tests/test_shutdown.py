"""Calls under way when a process forks, or ends; over both cores."""

from __future__ import annotations

import pytest

from subjects import run


class TestInFlight:
    def test_second_thread_of_a_fork(self) -> None:
        """A fork in the middle of calls, from a thread: the child counts from zero, the parent all."""
        run(
            """
            import os, threading, warnings
            warnings.simplefilter("ignore")
            from hotlap import core
            ring = core.Ring(64)
            core.set_ring(ring)
            site = core.Site(1, "a")

            def inner():
                pid = os.fork()
                if pid == 0:
                    core.after_fork()
                    leaf()
                return pid

            outer = core.FunctionProbe(inner, site)
            leaf = core.FunctionProbe(lambda: None, site)

            def gen():
                yield outer()

            items = core.FunctionProbe(gen, site, 7)

            def work():
                pid = next(items())
                read = dict(zip(core.COUNTERS, site.read()))
                if pid == 0:
                    ok = (read["calls"], read["in_flight"]) == (1, 0)
                    ok = ok and len(ring.drain()) == core.RECORD_BYTES
                    os._exit(0 if ok else 1)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                assert read["calls"] == 2, read

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            """
        )

    @pytest.mark.parametrize("daemon", [True, False])
    def test_shutdown_in_flight(self, daemon: bool) -> None:
        """The interpreter ends while threads are in calls, tasks suspended, and blocks open."""
        run(
            """
            import asyncio, sys, threading, time
            from hotlap import core
            core.set_ring(core.Ring(1024))
            sites = {}
            core.set_sites(sites, lambda name, options: sites.setdefault(name, core.Site(len(sites), name)))
            site = core.Site(1, "a")
            loops = core.FunctionProbe(lambda: [leaf() for _ in range(50)], site)
            leaf = core.FunctionProbe(lambda: None, site)
            going = [True]

            def work():
                while going[0]:
                    with core.measure("block"):
                        loops()

            def body():
                with core.measure("kept"):
                    yield

            items = core.FunctionProbe(body, site, 7)()
            next(items)

            async def waits():
                await asyncio.sleep(1000)

            loop = asyncio.new_event_loop()
            task = loop.create_task(core.FunctionProbe(waits, site)())
            loop.run_until_complete(asyncio.sleep(0))
            task._log_destroy_pending = False

            class Last:
                def __del__(self):
                    leaf()
                    with core.measure("last"):
                        pass

            last = Last()
            sys.setswitchinterval(1e-4)  # coverage's writing at exit gives way to the threads often
            for _ in range(8):
                threading.Thread(target=work, daemon=sys.argv[1] == "True").start()
            time.sleep(0.05)
            if sys.argv[1] == "False":
                going.clear()
                going.append(False)
            """,
            str(daemon),
        )
