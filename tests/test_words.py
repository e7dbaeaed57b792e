"""Numbers in the sentences of the rules."""

from __future__ import annotations

import pytest

from hotlap.rules import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (words.duration(0), "0 s"),
        (words.duration(3.4e-7), "340 ns"),
        (words.duration(0.00034), "340 us"),
        (words.duration(0.0123), "12.3 ms"),
        (words.duration(0.9999), "1 s"),
        (words.duration(2.5), "2.5 s"),
        (words.duration(119), "119 s"),
        (words.duration(190), "3.17 min"),
        (words.duration(36000), "10 h"),
        (words.share(0.0), "0 %"),
        (words.share(0.0001), "under 0.1 %"),
        (words.share(0.004), "0.4 %"),
        (words.share(0.34), "34 %"),
        (words.share(0.999), "over 99 %"),
        (words.share(1.0), "100 %"),
        (words.megabytes(0.04), "40 kB"),
        (words.megabytes(6.6e-6), "6.6 bytes"),
        (words.megabytes(1e-6), "1 byte"),
        (words.megabytes(0.0), "0 MB"),
        (words.megabytes(12.5), "12.5 MB"),
        (words.megabytes(1300), "1.3 GB"),
        (words.megabytes(2.5e6), "2.5 TB"),
        (words.number(1234.4), "1,234"),
        (words.number(12.34), "12.3"),
        (words.number(2.0), "2"),
        (words.number(0.0123), "0.012"),
        (words.hourly(90), "90 s per hour"),
        (words.hourly(3600, "waiting"), "60 min of waiting per hour"),
        (words.hourly(3650), "60 min per hour"),
        (words.hourly(10800, "waiting"), "3 h of waiting per hour (summed over threads and tasks)"),
        (words.either(["a lock"]), "a lock"),
        (words.either(["a lock", "a pool"]), "a lock or a pool"),
        (words.either(["a query", "a lock", "a pool"]), "a query, a lock or a pool"),
        (words.rate(340), "340 calls/s"),
        (words.rate(0.2), "12 calls/min"),
        (words.rate(0.001), "3.6 calls/h"),
        (
            f"{words.Duration(0.002)} {words.Share(0.5)} {words.Megabytes(3)} {words.Number(1500)}",
            "2 ms 50 % 3 MB 1,500",
        ),
    ],
)
def test_numbers_are_said_in_human_units(text: str, expected: str) -> None:
    """Three significant digits, in the unit that a person would use."""
    assert text == expected
