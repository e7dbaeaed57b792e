"""A machine-learning service: single predictions, batches, and what a batch saves.

    pip install scikit-learn
    python examples/ml_inference.py

A support-vector machine reads scikit-learn's handwritten digits. `size` tells hotlap how much work a call was
given, `record` adds numbers of your own, and `slo` says what is fast enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

import hotlap


class DigitReader:
    """Reads digits from 8 x 8 images, given as rows of 64 numbers."""

    def __init__(self) -> None:
        self.model = SVC(gamma=0.001)

    @hotlap.benchmark(type="cpu", size="images")
    def train(self, images: np.ndarray[Any, Any], digits: np.ndarray[Any, Any]) -> None:
        self.model.fit(images, digits)

    @hotlap.benchmark(type="cpu", slo="5ms")
    def read_one(self, image: np.ndarray[Any, Any]) -> int:
        return int(self.model.predict(image[np.newaxis])[0])

    @hotlap.benchmark(type="cpu", slo="50ms", size="images")
    def read_many(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        read: np.ndarray[Any, Any] = self.model.predict(images)
        return read


def ms(seconds: float | None) -> str:
    """Milliseconds, or a dash where there is no evidence."""
    return "-" if seconds is None else f"{seconds * 1e3:.3f}"


def main(batch: int = 64) -> None:
    images, digits = load_digits(return_X_y=True)
    train_images, test_images, train_digits, test_digits = train_test_split(images, digits, random_state=0)

    hotlap.start(sinks=[])
    reader = DigitReader()
    reader.train(train_images, train_digits)

    for image in test_images:
        reader.read_one(image)

    right = 0
    for begin in range(0, len(test_images), batch):
        part = slice(begin, begin + batch)
        with hotlap.measure("batch", size=len(test_images[part])) as measured:
            correct = int((reader.read_many(test_images[part]) == test_digits[part]).sum())
            measured.record(correct=correct)
        right += correct

    print(f"accuracy {right / len(test_images):.1%} on {len(test_images)} images")
    stats = {report.site.rpartition(".")[2]: report.stats for report in hotlap.flush()}
    one, many = stats["read_one"], stats["read_many"]
    print(f"one by one {ms(one.total_s)} ms, in batches of {batch} {ms(many.total_s)} ms")
    print(f"read_one: {one.calls} calls, p50 {ms(one.p50_s)} ms, p99 {ms(one.p99_s)} ms")
    print(f"correct per batch: {stats['batch'].metrics['correct'].total / stats['batch'].calls:.1f}")
    hotlap.stop()


if __name__ == "__main__":
    main()
