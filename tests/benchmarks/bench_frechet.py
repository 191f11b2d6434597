"""The Fréchet distance against the `scipy.linalg.sqrtm` route, at d = 2048.

Run ``python tests/benchmarks/bench_frechet.py [--n 1100] [--threads 2]`` on a quiet machine (BLAS
threads wait for each other on a busy one): both are timed in one process on the same features, ours
as the median of five, sqrtm once (it takes a minute).
Error is against X and X + 0.1, whose distance is known: d * 0.01. Exit code 1 below a ratio of 50.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

TARGET = 50.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1100, help="rows of each set")
    parser.add_argument("--d", type=int, default=2048, help="features")
    parser.add_argument("--threads", type=int, default=2, help="threads of BLAS")
    return parser.parse_args()


def timed(function: Callable[[], float], repeat: int) -> tuple[float, float]:
    """Return the median wall time and the value."""
    times, value = [], 0.0
    for _ in range(repeat):
        start = time.perf_counter()
        value = function()
        times.append(time.perf_counter() - start)
    return statistics.median(times), value


def main() -> int:
    args = arguments()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(args.threads)

    import numpy as np
    import scipy
    from scipy.linalg import sqrtm

    from phonoscope.metrics.frechet import frechet_distance

    def through_sqrtm(x: np.ndarray, y: np.ndarray) -> float:
        s1, s2 = np.cov(x.T), np.cov(y.T)
        difference = x.mean(axis=0) - y.mean(axis=0)
        root = sqrtm(s1 @ s2)
        traces = np.trace(s1) + np.trace(s2) - 2 * np.trace(np.real(root))
        return float(difference @ difference + traces)

    def rectified(seed: int) -> np.ndarray:
        noise = np.random.RandomState(seed).standard_normal((args.n, args.d))
        return np.maximum(0.05 * noise + 0.01, 0)

    x, y = rectified(5), rectified(6)
    print(
        f"n {args.n}, d {args.d}, {args.threads} threads; "
        f"numpy {np.__version__}, scipy {scipy.__version__}"
    )
    ours, value = timed(lambda: frechet_distance(x, y)[0], 5)
    print(f"ours   {ours:8.2f} s  {value:.12f}")
    moved = frechet_distance(x + 0.1, x)[0] - args.d * 0.01
    print(
        f"       error {moved:+.1e} on X against X + 0.1, "
        f"{frechet_distance(x, x)[0]:+.1e} on X against X"
    )
    theirs, other = timed(lambda: through_sqrtm(x, y), 1)
    print(f"sqrtm  {theirs:8.2f} s  {other:.12f}  (off by {other - value:+.1e})")
    print(f"ratio  {theirs / ours:8.1f}  (target {TARGET:.0f})")
    return 0 if theirs / ours >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
