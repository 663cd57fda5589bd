"""All image-folder sets of shared/data, learned one after the other in one learner, with both kinds of anchor.

    python benchmarks/image_folders.py --data ../shared/data

Goals: task-mapper accuracy (mean over tasks) >= 0.95 with Mahalanobis anchors and >= 0.92 with Gaussian ones;
mean accuracy without task names within 7 % (relative) of the accuracy with them; the first task after the
last one keeps >= 0.95 of its accuracy. Inputs called "unknown" count as wrong everywhere but in
"nearest_task", which asks the mapper for the nearest task alone, as the paper does.
"""

import argparse
import hashlib
import tempfile
from pathlib import Path

import numpy as np
import torch
from results import write

from stolon import learners, streams
from stolon.experiments import Experiment, LearnerSpec, Results, StreamSpec, run
from stolon.nets.backbone import Backbone, pretrained

GOALS = {"mahalanobis": 0.95, "gmm": 0.92}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = Path(tempfile.mkdtemp(prefix="stolon-image-folders-"))
    net = f"timm:mobilenetv2_100?pad_type=same&size={options.size}"
    backbone = pretrained(net, options.data / "backbones" / "mobilenetv2_100.safetensors")
    remember_features(backbone)
    experiment = Experiment(
        name="image-folders",
        learners=[
            LearnerSpec("lightweight", net, label=anchor, settings={"anchor": anchor}) for anchor in GOALS
        ],
        streams=[StreamSpec("folders", root=str(options.data / "datasets"), options={"size": options.size})],
        seeds=[options.seed],
        evaluate_every=0,
        workers=0,
    )
    made = {}

    def make_learner(spec: LearnerSpec):
        made[spec.label] = learners.make(spec.name, net=backbone, **spec.settings)
        return made[spec.label]

    def make_stream(spec: StreamSpec, seed: int):
        return streams.make(spec.name, root=spec.root, seed=seed, **spec.options)

    for event in run(experiment, out, make_learner=make_learner, make_stream=make_stream):
        if event.record.kind in ("task", "failed"):
            data = event.record.data
            print(
                event.record.learner,
                data.get("task"),
                data.get("mapper_accuracy"),
                data.get("error", ""),
                flush=True,
            )
    tasks = list(make_stream(experiment.streams[0], options.seed))
    rows = [summary(out, label, nearest_accuracy(made[label], tasks)) for label in GOALS]
    for row in rows:
        print(row)
    write("image_folders", {"seed": options.seed, "size": options.size, "rows": rows})


def remember_features(backbone: Backbone) -> None:
    """Let the second learner find the features that the first one computed of the same images."""
    compute, known = backbone.features, {}

    def features(x: torch.Tensor, parameters=None) -> torch.Tensor:
        key = hashlib.sha256(x.contiguous().numpy().data).digest()
        if parameters or key not in known:
            known[key] = compute(x, parameters)
        return known[key]

    backbone.features = features


def nearest_accuracy(learner, tasks) -> float:
    """Share of test images whose task is the nearest, mean over tasks; nothing is unknown."""
    shares = []
    for task in tasks:
        rows = torch.arange(len(task.test)).split(256)
        scores = torch.cat(
            [learner.mapper.scores(learner._memo.features(task.test.batch(i)[0])) for i in rows]
        )
        shares.append(float((scores.argmax(1) == learner.mapper.tasks.index(task.name)).float().mean()))
    return round(float(np.mean(shares)), 4)


def summary(folder: Path, label: str, nearest: float) -> dict:
    """The figures of one learner, from the results file alone."""
    tasks = [
        r.data for r in Results(folder / "results.jsonl").read() if r.kind == "task" and r.learner == label
    ]
    last = tasks[-1]
    confusion = np.asarray(last["confusion"], dtype=float)
    inputs = confusion.sum(1)
    named, unnamed = np.mean(last["row"]), np.mean(last["unnamed_row"])
    return {
        "anchor": label,
        "tasks": len(tasks),
        "goal": GOALS[label],
        "mapper_accuracy": round(float(np.mean(np.diag(confusion) / inputs)), 4),
        "called_unknown": round(float(np.mean(confusion[:, -1] / inputs)), 4),
        "mapper_accuracy_where_known": round(
            float(np.mean(np.diag(confusion) / (inputs - confusion[:, -1]))), 4
        ),
        "nearest_task": nearest,
        "accuracy_named": round(float(named), 4),
        "accuracy_unnamed": round(float(unnamed), 4),
        "unnamed_over_named": round(float(unnamed / named), 4),
        "first_task_kept": round(last["unnamed_row"][0] / tasks[0]["unnamed_row"][0], 4),
        "first_task_kept_named": round(last["row"][0] / tasks[0]["row"][0], 4),
        "kB_per_task": round(sum(last["size"]["bytes_per_task"].values()) / 1000 / len(tasks)),
        "by_task": {
            t["task"]: {
                "named": round(a, 4),
                "unnamed": round(b, 4),
                "mapper": round(float(confusion[i, i] / inputs[i]), 4),
                "unknown": round(float(confusion[i, -1] / inputs[i]), 4),
            }
            for i, (t, a, b) in enumerate(zip(tasks, last["row"], last["unnamed_row"], strict=True))
        },
    }


if __name__ == "__main__":
    main()
