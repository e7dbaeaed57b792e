"""Inference of a real model: what a batch saves, over a grid of batch sizes.

    pip install scikit-learn
    python examples/lab/ml_inference.py

A random forest reads scikit-learn's handwritten digits.
"""

from __future__ import annotations

from typing import Any

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from hotlap import BenchmarkConfig, PerformanceBenchmarker

IMAGES, DIGITS = load_digits(return_X_y=True)
MODEL = RandomForestClassifier(n_estimators=20, random_state=0).fit(IMAGES[:1000], DIGITS[:1000])


def predict(batch: int) -> Any:
    return MODEL.predict(IMAGES[1000 : 1000 + batch])


def main() -> None:
    grid = PerformanceBenchmarker().benchmark_parameters(
        predict, {"batch": [1, 8, 64, 512]}, config=BenchmarkConfig(iterations=30, warmup_iterations=5)
    )
    for report in grid.reports:
        batch, mean = report.parameters["batch"], report.summary["avg_execution_time"]
        print(f"batch {batch:4}: {1e3 * mean:7.2f} ms, {1e6 * mean / batch:9.1f} us an image")
    print(grid.scaling["batch"].sentence())


if __name__ == "__main__":
    main()
