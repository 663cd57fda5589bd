"""What a hostile listed author may send: anchors made of what everybody can see of the honest ones.

Each attack is a function of the kind's public anchors (by task, as they are sent), the victim's name and a
generator, and gives hostile anchors by name. Names begin with "!" or "0", so that they sort first in every tie. All
attacks stay within what acceptance lets through (stolon.sharing.lightweight), except where they say so.
"""

# ruff: noqa: ARG001 - every attack takes the same three

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stolon.light.anchors import GaussianAnchor, MahalanobisAnchor

Anchor = MahalanobisAnchor | GaussianAnchor
Public = dict[str, Anchor]
Attack = Callable[[Public, str, torch.Generator], Public]
MOST_CLASSES = 200
"""Acceptance lets 1,000 through; 200 do the same in less time."""


def _noise(x: Tensor, size: float, g: torch.Generator) -> Tensor:
    return _unit(x + size * x.norm(dim=1, keepdim=True) * normalize(torch.randn(x.shape, generator=g), dim=1))


def _unit(x: Tensor) -> Tensor:
    """Rows no longer than 1."""
    return x / x.norm(dim=1, keepdim=True).clamp(min=1)


def _held_out(anchor: Anchor) -> Tensor:
    if isinstance(anchor, GaussianAnchor):
        return anchor.probes
    return torch.cat([anchor.probes, anchor.examples])


def _anchor(
    like: Anchor, means: Tensor, examples: Tensor | None = None, probes: Tensor | None = None, **more
):
    """An anchor of the same kind with these means; examples [K * n, D] come class by class."""
    k = len(means)
    if isinstance(like, GaussianAnchor):
        return GaussianAnchor(
            means,
            more.get("variances", like.variances.mean(0, keepdim=True)),
            torch.full((k,), 1 / k),
            torch.tensor(20 * k),
            like.probes[:0] if probes is None else probes,
        )
    examples = means if examples is None else examples
    return MahalanobisAnchor(
        means,
        torch.full((k,), more.get("count", 50)),
        examples,
        torch.arange(k).repeat_interleave(len(examples) // k),
        means[:0] if probes is None else probes,
    )


def wide(public: Public, victim: str, g: torch.Generator) -> Public:
    """Claims a covariance 100 times as wide around the victim's means (examples as far out as may be)."""
    a = public[victim]
    if isinstance(a, GaussianAnchor):
        return {"!wide": _anchor(a, _noise(a.means, 0.1, g), variances=100 * a.variances)}
    examples = normalize(torch.randn(8 * len(a.means), a.means.shape[1], generator=g), dim=1)
    return {"!wide": _anchor(a, _noise(a.means, 0.1, g), examples)}


def tiny(public: Public, victim: str, g: torch.Generator) -> Public:
    """Claims next to no covariance at the victim's means."""
    a = public[victim]
    if isinstance(a, GaussianAnchor):
        return {"!tiny": _anchor(a, a.means, variances=1e-9 * torch.ones_like(a.variances))}
    return {"!tiny": _anchor(a, a.means, a.means.repeat_interleave(8, 0), count=10**6)}


def copy_one(public: Public, victim: str, g: torch.Generator) -> Public:
    """The victim's anchor as it is, under a name that sorts first."""
    return {"!copy": public[victim]}


def near_copy(public: Public, victim: str, g: torch.Generator) -> Public:
    """The victim's means moved by a hundredth."""
    a = public[victim]
    return {"!near": _anchor(a, _noise(a.means, 0.01, g), probes=_held_out(a)[:64])}


def copy_all(public: Public, victim: str, g: torch.Generator) -> Public:
    """The means of all tasks, moved by a hundredth, as one task."""
    means = torch.cat([a.means for a in public.values()])[:MOST_CLASSES]
    return {"!all": _anchor(public[victim], _noise(means, 0.01, g))}


def crowd(public: Public, victim: str, g: torch.Generator) -> Public:
    """As many classes as may be, all around what the victim's anchor shows."""
    a = public[victim]
    seen = torch.cat([a.means, _held_out(a)])
    means = seen[torch.randint(len(seen), (MOST_CLASSES,), generator=g)]
    return {"!crowd": _anchor(a, _noise(means, 0.3, g))}


def nan(public: Public, victim: str, g: torch.Generator) -> Public:
    """A mean that is no number; acceptance refuses it, and so does activation."""
    a = public[victim]
    means = a.means.clone()
    means[0, 0] = float("nan")
    return {"!nan": a._replace(means=means)}


def mirrored(public: Public, victim: str, g: torch.Generator) -> Public:
    """Means of nothing, examples and probes mirrored through the origin, as many as may be."""
    a = public[victim]
    means = normalize(torch.rand(8, a.means.shape[1], generator=g), dim=1)
    far = -_held_out(a)
    far = far[torch.randint(len(far), (64,), generator=g)]
    return {"!mirror": _anchor(a, means, far, far)}


def inflated(public: Public, victim: str, g: torch.Generator) -> Public:
    """Examples (or variances) that stretch the covariance along what tells the victim from the others."""
    a = public[victim]
    others = torch.stack([b.means.mean(0) for name, b in public.items() if name != victim])
    along = normalize(others - a.means.mean(0), dim=1)
    means = normalize(torch.rand(100, a.means.shape[1], generator=g), dim=1) * 0.1
    if isinstance(a, GaussianAnchor):
        stretched = along.abs().amax(0, keepdim=True).square() + 1e-9
        return {
            "!inflated": _anchor(a, means + along[torch.arange(100) % len(along)] / 2, variances=stretched)
        }
    way = along[torch.arange(800) % len(along)] * torch.tensor([0.9, -0.9]).repeat(400)[:, None]
    return {"!inflated": _anchor(a, means, means.repeat_interleave(8, 0) + way)}


def loosen(public: Public, victim: str, g: torch.Generator) -> Public:
    """A task of nothing whose probes lie far out, so that the common thresholds let everything in."""
    a = public[victim]
    means = normalize(torch.rand(8, a.means.shape[1], generator=g), dim=1)
    far = normalize(torch.randn(64, a.means.shape[1], generator=g), dim=1)
    return {"!loose": _anchor(a, means, probes=far)}


def swarm(public: Public, victim: str, g: torch.Generator) -> Public:
    """Ten modules by one author, each with a single mean at one sample that the victim's anchor shows."""
    a = public[victim]
    seen = _held_out(a)
    seen = seen[torch.randperm(len(seen), generator=g)[:10]]
    return {f"!swarm {i}": _anchor(a, x[None]) for i, x in enumerate(seen)}


def creep(public: Public, victim: str, g: torch.Generator) -> Public:
    """Ten modules by one author, each between the victim's middle and another task's, nearer and nearer."""
    a = public[victim]
    others = [b.means.mean(0) for name, b in public.items() if name != victim]
    found = {}
    for i in range(10):
        weight = 0.3 + 0.07 * i
        point = weight * a.means[i % len(a.means)] + (1 - weight) * others[i % len(others)]
        found[f"!creep {i:02d}"] = _anchor(a, point[None])
    return found


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        wide,
        tiny,
        copy_one,
        near_copy,
        copy_all,
        crowd,
        nan,
        mirrored,
        inflated,
        loosen,
        swarm,
        creep,
    )
}
