"""The merged Gaussian mapper beside a loop over its components: 102 tasks x 25 components x 2048 dimensions.

    python benchmarks/mapper_speed.py

Both are asked in turn in one process, and must give the same answers. The loop is the formula of Eq. 3, one
component after the other, each on the whole batch. Writes benchmarks/results/mapper_speed.json.
"""

import json
import math
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from stolon.light.anchors import GaussianAnchor, GaussianConfig
from stolon.light.mappers import GaussianMapper

TASKS, K, D, SEED = 102, 25, 2048, 0


def loop(anchors: dict[str, GaussianAnchor], x: Tensor) -> Tensor:
    """Scores [B, T] by one pass per component: log phi N + log N(x | mu, diagonal), best of each task."""
    total = sum(int(a.samples) for a in anchors.values())
    columns = []
    for name in sorted(anchors):
        a = anchors[name]
        best = x.new_full((len(x),), -torch.inf)
        for mean, variance, weight in zip(a.means, a.variances, a.weights, strict=True):
            distance = ((x - mean).square() / variance).sum(1)
            constant = float(variance.log().sum()) + D * math.log(2 * math.pi)
            prior = math.log(float(weight) * int(a.samples) / total)
            best = torch.maximum(best, prior - (distance + constant) / 2)
        columns.append(best)
    return torch.stack(columns, 1)


def pooled_loop(anchors: dict[str, GaussianAnchor], factor: Tensor, x: Tensor) -> Tensor:
    """Scores [B, T] in one shared covariance: a triangular solve per component."""
    columns = []
    for name in sorted(anchors):
        best = x.new_full((len(x),), -torch.inf)
        for mean in anchors[name].means:
            z = torch.linalg.solve_triangular(factor, (x - mean).T, upper=False)
            best = torch.maximum(best, -z.square().sum(0) / 2)
        columns.append(best)
    return torch.stack(columns, 1)


def median_s(call, times: int) -> float:
    call()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def main() -> None:
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(SEED)
    centres = torch.rand(TASKS, 1, D, generator=g)
    anchors = {
        f"task {t:03d}": GaussianAnchor(
            centres[t] + 0.3 * torch.rand(K, D, generator=g),
            0.05 + 0.1 * torch.rand(K, D, generator=g),
            torch.full((K,), 1 / K),
            torch.tensor(1000 + t),
            torch.zeros(0, D),
        )
        for t in range(TASKS)
    }
    published = GaussianMapper(anchors, GaussianConfig.as_published())
    shared = GaussianConfig(transform="none", unknown_quantile=None, temperature=1.0)
    pooled = GaussianMapper(anchors, shared)
    scatter = sum(
        (a.means - a.means.mean(0)).double().T @ (a.means - a.means.mean(0)).double() / K
        for a in anchors.values()
    )
    diagonal = torch.stack([a.variances.double().mean(0) for a in anchors.values()]).mean(0)
    factor = torch.linalg.cholesky(torch.diag(diagonal) + shared.spread * scatter / TASKS).float()
    rows = []
    for batch in (256, 1):
        x = centres[torch.arange(batch) % TASKS, 0] + 0.4 * torch.randn(batch, D, generator=g)
        cases = [("own diagonals, as published", published, lambda x=x: loop(anchors, x), 3)]
        # a triangular solve per component and input takes minutes in a batch; a few inputs say the same
        if batch == 1:
            cases.append(
                ("pooled covariance, default", pooled, lambda x=x: pooled_loop(anchors, factor, x), 1)
            )
        for name, mapper, slow, times in cases:
            ours, theirs = mapper.scores(x), slow()
            assert torch.equal(ours.argmax(1), theirs.argmax(1)), "other answers than the loop"
            difference = float(((ours - theirs).abs() / theirs.abs()).max())
            assert difference < 1e-4, difference
            fast_s, slow_s = median_s(lambda x=x, m=mapper: m.scores(x), 20), median_s(slow, times)
            rows.append(
                {"case": name, "batch": batch, "loop_s": slow_s, "mapper_s": fast_s}
                | {"ratio": slow_s / fast_s, "largest_relative_difference": difference}
            )
            print(
                f"{name}, batch {batch}: loop {slow_s:.4f} s, mapper {fast_s:.5f} s, "
                f"{slow_s / fast_s:.1f} x, same answers (largest relative difference {difference:.1e})",
                flush=True,
            )
    result = {
        "tasks": TASKS,
        "components": K,
        "dimensions": D,
        "seed": SEED,
        "rows": rows,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "threads": 1,
    }
    path = Path(__file__).parent / "results/mapper_speed.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result) + "\n")


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
