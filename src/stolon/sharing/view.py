"""Which modules of a set count: pure functions of the set, so that agents with the same set agree.

Two questions. *What is kept* of an author, who may have no more than a quota: :func:`kept`. *What is current*
among versions of a task: :func:`current`. Neither looks at a clock, nor at the order of arrival.
"""

from collections.abc import Mapping
from typing import Final

from stolon.sharing.limits import MAX_VERSIONS
from stolon.sharing.manifest import Manifest

ENVELOPE_BYTES: Final = 4096
"""What an envelope counts in a quota, so that modules of nothing are not free: about its size on disk."""


def rank(id_: str, manifest: Manifest) -> tuple[int, str]:
    """Newer versions rank higher; equal ones by id, the same everywhere."""
    return manifest.seq, id_


def size(manifest: Manifest) -> int:
    """What a module counts in its author's quota, bytes."""
    return manifest.total_bytes + ENVELOPE_BYTES


def current(manifests: Mapping[str, Manifest]) -> frozenset[str]:
    """The ids of the newest version of every author's tasks, less what another module of the author replaces.

    Args:
        manifests: by module id.
    """
    newest: dict[tuple[str, str], str] = {}
    replaced = set()
    for id_, manifest in manifests.items():
        key = (manifest.author, manifest.task)
        if key not in newest or rank(id_, manifest) > rank(newest[key], manifests[newest[key]]):
            newest[key] = id_
        replaced |= {(manifest.author, old) for old in manifest.replaces}
    return frozenset(id_ for (author, _), id_ in newest.items() if (author, id_) not in replaced)


def kept(manifests: Mapping[str, Manifest], modules: int, most_bytes: int) -> frozenset[str]:
    """The ids that are kept of *one* author.

    Of each task the :data:`~stolon.sharing.limits.MAX_VERSIONS` newest; of these, by rank, the shortest
    beginning that uses up the quota, or all. The module that uses it up is kept: without it, others that rank
    lower would fit, and what is kept would depend on who came first. With it, taking in modules one by one, in
    any order and as often as one likes, ends at the same set for all who saw the same: each step
    only ever raises the set in the lexicographic order of its ranked members (tested in tests/sharing).

    Args:
        manifests: by module id, all of one author.
        modules: how many at most.
        most_bytes: of files and envelopes.
    """
    ranked = sorted(manifests, key=lambda id_: rank(id_, manifests[id_]), reverse=True)
    versions: dict[str, int] = {}
    found: list[str] = []
    used = 0
    for id_ in ranked:
        manifest = manifests[id_]
        versions[manifest.task] = versions.get(manifest.task, 0) + 1
        if versions[manifest.task] > MAX_VERSIONS:
            continue
        if len(found) >= modules or used >= most_bytes:
            break
        found.append(id_)
        used += size(manifest)
    return frozenset(found)
