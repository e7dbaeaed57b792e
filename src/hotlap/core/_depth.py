"""How deep measured calls may go, where the recursion limit does not say: the C stack has an end.

A call of a probe recurses on the C stack, where plain Python calls do not (3.11 and later). So a limit that was
raised, or a thread with a small stack, would end in a crash. Nothing of Python's own tells how much of the stack
is used, but a deep recursion has many calls of one site in flight: from CROWD on, one in so many looks down.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType

from ._base import scope_now

CROWD = 8  # calls of a site in flight

levels: set[CodeType] = set()  # the code that is run once by each measured call under way on a thread


def look_down(flying: int) -> None:
    """For a call that finds so many in flight. Raises RecursionError when the stack holds no more."""
    if flying % CROWD or flying % (1 << max(flying.bit_length() - 4, 0)):
        return  # so that a recursion's looks take no longer than its calls
    deepest = scope_now().deepest
    if sys.getrecursionlimit() <= deepest:
        return
    depth = 0
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        depth += frame.f_code in levels
        frame = frame.f_back
    if depth >= deepest:
        raise RecursionError("maximum recursion depth exceeded: no C stack left for a measured call")
