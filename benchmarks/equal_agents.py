"""Eight agents with three tasks each, all of real data: are all eight the same in the end, and what went over the wire?

    python benchmarks/equal_agents.py --data DATA

Eight `stolon agent` processes, every pair connected by Zenoh through a proxy that counts bytes, and eight `stolon
learn`, side by side: each teaches its agent three of the 24 data sets of DATA (parts of them, so that two processor
cores do it in minutes) on the MobileNetV2 weights there. Promise: within 10 s after the last task was learned all
eight hold the same modules and answer for all 24 tasks, on the same pictures with the same bits; and the bytes on
the wire are at most 15 % more than the modules themselves, once for each agent that did not have them.

Agents answer alike where the same modules are active. Which are is each agent's own decision, by its own probes
(reliability.md 4.8), so the answers are compared where agents hold nothing back: `--may-take 1`. With the usual 0.05
they hold the same modules all the same; `active` says how many each of them answers from.

Writes benchmarks/results/equal_agents.json.
"""

import argparse
import gzip
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from fleet import free_ports, wait_until
from PIL import Image
from proxy import Network, Proxy

PROMISE_S, OVERHEAD = 10.0, 0.15
WEIGHTS, BACKBONE = "mobilenetv2_100.safetensors", "timm:mobilenetv2_100?pad_type=same"
IDX = ("train", "t10k")


def make_folders(data: Path, to: Path, *, classes: int, train: int, test: int) -> list[Path]:
    """A small folder NAME/{train,test}/CLASS/* of each data set, as plain files; the first pictures of each class."""
    made = []
    for source in sorted((data / "datasets").iterdir()):
        folder = to / source.name
        if (source / "train").is_dir():
            names = sorted(path.name for path in (source / "train").iterdir())[:classes]
            for part, count in (("train", train), ("test", test)):
                for name in names:
                    (folder / part / name).mkdir(parents=True)
                    for path in sorted((source / part / name).iterdir())[:count]:
                        shutil.copyfile(path, folder / part / name / path.name)
        elif (source / "raw").is_dir():
            for part, word, count in zip(("train", "test"), IDX, (train, test), strict=True):
                images = _idx(source / "raw" / f"{word}-images-idx3-ubyte.gz")
                labels = _idx(source / "raw" / f"{word}-labels-idx1-ubyte.gz")
                names = [f"class {label}" for label in range(min(classes, int(labels.max()) + 1))]
                _write(folder / part, images, labels, names, count)
        elif source.is_dir():
            with np.load(source / "cifar100_subset.npz", allow_pickle=False) as arrays:
                names = [str(name) for name in arrays["fine_names"][:classes]]
                _write(folder / "train", arrays["train_images"], arrays["train_fine"], names, train)
                _write(folder / "test", arrays["test_images"], arrays["test_fine"], names, test)
        else:
            continue
        made.append(folder)
    return made


def _idx(path: Path) -> np.ndarray:
    with gzip.open(path) as file:
        _, _, kind, rank = struct.unpack(">BBBB", file.read(4))
        assert kind == 8, "expected bytes"
        shape = struct.unpack(f">{rank}I", file.read(4 * rank))
        return np.frombuffer(file.read(), np.uint8).reshape(shape)


def _write(folder: Path, images: np.ndarray, labels: np.ndarray, names: list[str], count: int) -> None:
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in np.flatnonzero(labels == label)[:count]:
            Image.fromarray(images[number]).convert("RGB").save(folder / name / f"{number}.png")


def make_stores(folder: Path, count: int, weights: Path, may_take: float) -> list[Path]:
    """Stores that trust each other."""
    from stolon.agent import Agent
    from stolon.nets.backbone import pretrained
    from stolon.sharing.gate import GateSettings
    from stolon.sharing.trust import Author

    backbone = pretrained(BACKBONE, str(weights))
    usual = GateSettings()
    gate = GateSettings(may_take, lost=max(may_take, usual.lost), loosened=max(may_take, usual.loosened))
    stores = [folder / f"agent-{number}" for number in range(count)]
    keys = []
    for store in stores:
        with Agent.create(store, backbone, gate=gate) as agent:
            keys.append(agent.key.public)
    for number, store in enumerate(stores):
        with Agent(store, backbone) as agent:
            trust = agent.trust
            for other, key in enumerate(keys):
                if other != number:
                    trust = trust.adding(Author(key, f"agent {other}"))
            agent.set_trust(trust)
    return stores


def start_agents(stores: list[Path], network: Network) -> tuple[list["subprocess.Popen[bytes]"], list[Proxy]]:
    """A daemon for each store; each connects to those before it."""
    running, proxies = [], []
    ports = free_ports(len(stores))
    for number, store in enumerate(stores):
        ours = [network.proxy(port) for port in ports[:number]]
        proxies += ours
        connect = [f"tcp/127.0.0.1:{proxy.port}" for proxy in ours]
        command = [*stolon(), "agent", "--store", str(store), "--listen", f"tcp/127.0.0.1:{ports[number]}"]
        with (store.parent / f"{store.name}.log").open("wb") as log:
            more = ["--connect", *connect] if connect else []
            running.append(subprocess.Popen([*command, *more], stdout=log, stderr=log))
    return running, proxies


def stolon() -> list[str]:
    """The command, by the same interpreter."""
    return [sys.executable, "-c", "from stolon.shell.main import main; raise SystemExit(main())"]


def ended(process: "subprocess.Popen[bytes]", within_s: float = 180.0) -> int:
    """The exit code of what was told to end; it is killed where it does not."""
    try:
        return process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def tasks_of(store: Path) -> list[dict[str, Any]] | None:
    """What a running agent says it knows; None while it does not answer."""
    from stolon.errors import StolonError
    from stolon.shell import remote

    try:
        agent = remote.running(store)
        return None if agent is None else list(agent.get("/tasks")["tasks"])
    except StolonError:
        return None


def ids(rows: list[dict[str, Any]] | None) -> frozenset[str]:
    """Of modules that are answered from, by what an agent says."""
    return frozenset(row["id"] for row in rows or [] if row["active"])


def held(rows: list[dict[str, Any]] | None) -> frozenset[str]:
    """Of modules that are held, active or not."""
    return frozenset(row["id"] for row in rows or [])


def learn(stores: list[Path], folders: list[Path]) -> list[float]:
    """Teach each agent its share, side by side; when each was done (by this process's clock)."""
    share = len(folders) // len(stores)
    learning = {}
    for number, store in enumerate(stores):
        mine = [str(folder) for folder in folders[number * share : (number + 1) * share]]
        with (store.parent / f"{store.name}-learn.log").open("wb") as log:
            learning[store] = subprocess.Popen(
                [*stolon(), "learn", "--store", str(store), *mine], stdout=log, stderr=log
            )
    done: dict[Path, float] = {}
    try:
        while len(done) < len(stores):
            for store, process in learning.items():
                if store not in done and process.poll() is not None:
                    if process.returncode:
                        raise RuntimeError((store.parent / f"{store.name}-learn.log").read_text()[-3000:])
                    done[store] = time.monotonic()
            time.sleep(0.02)
    finally:
        for process in learning.values():
            process.kill()
            process.wait()
    return list(done.values())


def pictures(folders: list[Path], size: int, per_task: int) -> np.ndarray:
    """Test pictures of all tasks, uint8 [N, 3, S, S]."""
    found = []
    for folder in folders:
        paths = sorted((folder / "test").glob("*/*"))
        for path in paths[:: max(1, len(paths) // per_task)][:per_task]:
            with Image.open(path) as image:
                found.append(np.asarray(image.convert("RGB").resize((size, size))).transpose(2, 0, 1))
    return np.stack(found)


def answers_running(store: Path, pixels: np.ndarray) -> list[dict[str, Any]]:
    """What a running agent answers."""
    from stolon.shell import remote

    agent = remote.running(store)
    assert agent is not None
    return list(agent.post("/classify", pixels.tobytes(), count=str(len(pixels)), size=str(pixels.shape[-1])))


def answers_offline(stores: list[Path], weights: Path, pixels: np.ndarray) -> list[bytes]:
    """What each store answers in one process, to the last bit: labels and confidences as bytes."""
    import torch

    from stolon.agent import Agent
    from stolon.nets.backbone import pretrained

    backbone = pretrained(BACKBONE, str(weights))
    found = []
    for store in stores:
        with Agent(store, backbone, write=False) as agent:
            answer = agent.predict(torch.from_numpy(pixels))
            names = repr((answer.tasks, answer.classes)).encode()
            found.append(names + answer.labels.numpy().tobytes() + answer.confidence.numpy().tobytes())
    return found


def main() -> None:
    import results
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=3, help="of each agent")
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--train", type=int, default=24, help="pictures of each class")
    parser.add_argument("--test", type=int, default=8)
    parser.add_argument("--may-take", type=float, default=1.0, help="1: nothing is held back; 0.05: as usual")
    parser.add_argument("--name", default="equal_agents", help="of the results file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    weights = given.data / "backbones" / WEIGHTS
    with tempfile.TemporaryDirectory() as folder, Network() as network:
        folders = make_folders(
            given.data, Path(folder) / "data", classes=given.classes, train=given.train, test=given.test
        )
        folders = folders[: given.tasks * given.agents]
        stores = make_stores(Path(folder), given.agents, weights, given.may_take)
        running, proxies = start_agents(stores, network)
        try:
            if not wait_until(lambda: all(tasks_of(store) is not None for store in stores), 180):
                raise RuntimeError(
                    "the agents do not start: " + (Path(folder) / "agent-0.log").read_text()[-2000:]
                )
            before = sum(proxy.passed for proxy in proxies)
            began = time.monotonic()
            done = learn(stores, folders)
            learned_s, last = max(done) - began, max(done)

            def are_equal() -> bool:
                said = [held(tasks_of(store)) for store in stores]
                return len(set(said)) == 1 and len(said[0]) == len(folders)

            is_equal = wait_until(are_equal, 120)
            equal_s = time.monotonic() - last if is_equal else None
            wire = sum(proxy.passed for proxy in proxies) - before
            wait_until(lambda: len({ids(tasks_of(store)) for store in stores}) == 1, 10)
            active_s = time.monotonic() - last
            rows = [tasks_of(store) or [] for store in stores]
            pixels = pictures(folders, 224, 4)
            told = [answers_running(store, pixels) for store in stores]
        finally:
            for process in running:
                process.terminate()
            codes = [ended(process) for process in running]
        bits = answers_offline(stores, weights, pixels)
    own = sum(row["bytes"] for row in rows[0]) * (given.agents - 1)
    figures = {
        "learned_s": round(learned_s, 1),
        "seconds_until_equal": equal_s,
        "seconds_until_equally_active": active_s,
        "modules": [len(held(one)) for one in rows],
        "active": [len(ids(one)) for one in rows],
        "held_back": sorted(
            {f"{row['task']}: {row['reason']}" for one in rows for row in one if not row["active"]}
        ),
        "pictures": len(pixels),
        "different_answers": len({repr(one) for one in told}),
        "different_bits": len(set(bits)),
        "bytes_on_the_wire": wire,
        "bytes_of_modules": own,
        "overhead": wire / own - 1,
        "bytes_per_module": round(sum(row["bytes"] for row in rows[0]) / max(1, len(rows[0]))),
        "exit_codes": codes,
    }
    kept = {
        "equal": equal_s is not None and equal_s <= PROMISE_S,
        "same bits": figures["different_answers"] == figures["different_bits"] == 1,
        "overhead": figures["overhead"] <= OVERHEAD,
        "end": not any(codes),
    }
    print(figures, kept)
    results.write(
        given.name,
        {
            "fault": f"{given.agents} agents with {len(folders) // given.agents} tasks each, of real data",
            "promise": f"within {PROMISE_S:g} s after the last one learned the same set and the same answers to the "
            f"bit; at most {OVERHEAD:.0%} more bytes on the wire than modules",
            "trials": 1,
            "failures": sum(not one for one in kept.values()),
            "kept": kept,
            "may_take": given.may_take,
            "classes": given.classes,
            "train_per_class": given.train,
            **figures,
        },
    )


if __name__ == "__main__":
    main()
