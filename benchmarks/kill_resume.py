"""SIGKILL a training at random moments, start it again each time, and compare the end's hash.

    python benchmarks/kill_resume.py --kills 50

Each run teaches three tasks of scikit-learn's digits to a learner that is saved at every yield. It is killed
after a random time, started again by the same command, killed again, ... until it ends by itself; then a new
run begins, until the number of kills is reached. Promise: one distinct hash over every tensor and every
value of the final states, equal to that of a run that was never killed.
"""

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import write


def child(folder: Path, method: str) -> None:
    import torch

    torch.set_num_threads(1)
    from stolon import learners, nets, records, streams

    if method == "lightweight":
        net = nets.make("digits-conv", input_shape=(1, 8, 8), seed=7)
        learner = learners.make(method, net=net, epochs=30, biases="all", bias_epochs=6)
    else:
        learner = learners.make(method, net="digits-conv", epochs=12, learning_rate=0.05)
    if records.exists(folder):
        learner.load(folder)
    print("begun", flush=True)
    for task in streams.make("digits-split", seed=1)[:3]:
        if task.name in learner.tasks:
            continue
        for _ in learner.learn(task, seed=5):
            learner.save(folder)
        learner.save(folder)
    print(state_hash(learner.record()))


def state_hash(record) -> str:
    sha = hashlib.sha256(json.dumps(dict(record.document), sort_keys=True).encode())
    for group, tensors in sorted(record.groups.items()):
        for name, tensor in sorted(tensors.items()):
            sha.update(f"{group}/{name}".encode() + tensor.detach().contiguous().numpy().tobytes())
    return sha.hexdigest()


def run(folder: Path, method: str, kill_after_s: float | None) -> tuple[str | None, float]:
    """The final hash, or None where the run was killed first; and seconds of learning."""
    command = [sys.executable, __file__, "--child", str(folder), "--method", method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "begun\n":
            raise SystemExit("a run did not begin")
        begun = time.monotonic()
        try:
            out, _ = process.communicate(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return None, time.monotonic() - begun
    if process.returncode:
        raise SystemExit(f"a run ended with {process.returncode}: expected 0")
    return out.strip(), time.monotonic() - begun


def study(method: str, kills: int, seed: int) -> dict:
    root = Path(tempfile.mkdtemp(prefix="stolon-kill-"))
    whole, took_s = run(root / "whole", method, None)
    dice = random.Random(seed)  # noqa: S311 - moments to kill at, no secrets
    hashes, done, finished = {whole}, 0, 0
    while done < kills:
        result = None
        while result is None:
            # The clock starts when learning does, so that no kill is wasted on Python's start.
            moment = dice.uniform(0, 0.6 * took_s) if done < kills else None
            result, _ = run(root / f"run-{finished}", method, moment)
            done += result is None
        hashes.add(result)
        finished += 1
    shutil.rmtree(root)
    return {"method": method, "kills": done, "finished_runs": finished, "distinct_hashes": len(hashes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default=None)
    parser.add_argument("--child", type=Path, default=None)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child, options.method)
        return
    methods = [options.method] if options.method else ["lightweight", "finetune"]
    rows = [study(method, options.kills, options.seed) for method in methods]
    for row in rows:
        print(row)
    write("kill_resume", {"seed": options.seed, "rows": rows})
    if any(row["distinct_hashes"] != 1 for row in rows):
        raise SystemExit("more than one final hash")


if __name__ == "__main__":
    main()
