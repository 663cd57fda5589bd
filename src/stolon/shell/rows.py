"""What is said of an agent, as plain values: the same for a command of its own and for a running agent."""

import time
from typing import Any, cast

from stolon.agent import Agent
from stolon.errors import SettingError
from stolon.outcomes import Prediction
from stolon.sharing.keys import fingerprint
from stolon.sharing.precision import PRECISIONS, Precision

Row = dict[str, Any]


def task_rows(agent: Agent) -> list[Row]:
    """Every task that the agent holds a module of, and those it has learned."""
    learner = agent.store.learner
    rows = []
    for status in agent.modules():
        facts = agent.store.facts.get(status.task, {}) if status.is_own else {}
        rows.append(
            {
                "task": status.name,
                "classes": list(status.classes),
                "images": facts.get("images", status.metrics.get("images")),
                "test_images": facts.get("test_images"),
                "test_accuracy": facts.get("test_accuracy", status.metrics.get("test_accuracy")),
                "seconds": facts.get("seconds", status.costs.get("seconds")),
                "biases": status.has_biases,
                "taught_by": "you" if status.is_own else status.author_name,
                "author": status.author,
                "id": status.id,
                "arrived": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.arrived)),
                "bytes": status.bytes,
                "learned_bytes": (
                    learner.size().bytes_per_task[status.task]
                    if status.is_own and status.task in learner.tasks
                    else None
                ),
                "active": status.active,
                "reason": status.reason,
            }
        )
    return rows


def answer_rows(answer: Prediction) -> list[Row]:
    """One answer per picture, in order."""
    return [
        {
            "task": answer.tasks[i],
            "class": answer.classes[i],
            "confidence": round(float(answer.confidence[i]), 6),
            "known": answer.classes[i] is not None,
        }
        for i in range(len(answer.labels))
    ]


def peer_rows(agent: Agent) -> list[Row]:
    """Every peer that was seen, the latest heard first."""
    now = agent.clock()
    rows = []
    for peer in agent.peers():
        author = agent.trust.author(peer.id)
        rows.append(
            {
                "peer": peer.id,
                "fingerprint": fingerprint(peer.id),
                "name": None if author is None else author.name,
                "linked": peer.linked,
                "heard_s": None if peer.heard is None else round(now - peer.heard, 1),
                "in_step": peer.equal,
                "holds": peer.count,
                "pulled": peer.pulled,
                "rejects": peer.rejects,
                "ignored_s": None if peer.ignored_until is None else round(peer.ignored_until - now, 1),
            }
        )
    return sorted(rows, key=lambda row: (row["heard_s"] is None, row["heard_s"], row["peer"]))


def export(agent: Agent, task: str, precision: str | None) -> bytes:
    """A task's module file.

    Raises:
        SettingError: no such precision.
        TaskUnknownError: no such task.
    """
    if precision is not None and precision not in PRECISIONS:
        raise SettingError(f"precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
    return agent.export(task, cast("Precision | None", precision))
