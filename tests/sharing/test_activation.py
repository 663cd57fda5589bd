"""What modules an agent answers from: honest ones all, hostile ones and duplicates none, in whatever order they came.

A short version of T16 on made-up features; the long one, on real features, is benchmarks/poison.py.
"""

import random
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from stolon import randomness
from stolon.errors import DataError, SettingError
from stolon.light.anchoring import Anchoring
from stolon.light.anchors import GaussianAnchor, MahalanobisAnchor
from stolon.sharing.activation import Activation, Candidate, GateSettings, activate
from stolon.sharing.gate import NEARLY, TIE, far_inputs, tolerated

WIDTH = 24
KINDS = ("mahalanobis", "gmm")
NAMES = ("birds", "cells", "clouds", "coins", "fish", "leaves", "signs", "stones")


def generator(*seed):
    return randomness.generator(0, "test", *seed)


@cache
def features(number, part, seed=0):
    """Inputs of a task, three classes, and their labels; the parts and seeds differ in inputs alone."""
    centre = torch.randn(WIDTH, generator=generator(number))
    classes = centre + 0.5 * torch.randn(3, WIDTH, generator=generator(number, 1))
    n = {"train": 60, "val": 120, "test": 200}[part]
    labels = torch.arange(n) % 3
    noise = torch.randn(n, WIDTH, generator=generator(number, part, seed))
    return classes[labels] + 0.3 * noise, labels


@cache
def anchoring(kind):
    return Anchoring(kind, {})


@cache
def anchor(kind, number, seed=0):
    return anchoring(kind).fit(*features(number, "train", seed), features(number, "val", seed)[0], seed, list)


def own(kind, number):
    name = NAMES[number]
    probes = features(number, "val")[0].half()
    return Candidate(f"own-{number}", name, "me", anchor(kind, number), probes)


def other(kind, number, author=None):
    return Candidate(f"id-{number}", NAMES[number], author or f"author-{number}", anchor(kind, number))


def decide(kind, mine, others, **settings):
    return activate(mine, others, anchoring(kind), no_images, GateSettings(**settings))


def no_images(x):
    raise AssertionError


def means_of(a, means, **changes):
    """An anchor of the same kind that has these means and brings nothing else."""
    k = len(means)
    if isinstance(a, GaussianAnchor):
        changes = {"probes": a.probes[:0], **changes}
        return a._replace(means=means, weights=torch.full((k,), 1 / k), **changes)
    shown = {"examples": means, "labels": torch.arange(k), "probes": means[:0], **changes}
    return a._replace(means=means, counts=torch.full((k,), 20), **shown)


def far_out(kind, size=8):
    """A task of nothing that shows samples from the other side of the world."""
    a = anchor(kind, 7)
    g = generator("far")
    means = normalize(torch.rand(3, WIDTH, generator=g), dim=1)
    return means_of(a, means, probes=normalize(-torch.rand(4 * size, WIDTH, generator=g), dim=1))


ATTACKS = {
    "copy": lambda kind: anchor(kind, 0),
    "near copy": lambda kind: means_of(anchor(kind, 0), 0.999 * anchor(kind, 0).means),
    "crowd": lambda kind: means_of(anchor(kind, 0), normalize(features(0, "train", 5)[0], dim=1)),
    "far out": far_out,
}


def share_given_to(mapper, name, x):
    return (
        float((mapper.map(x).tasks == mapper.tasks.index(name)).float().mean())
        if name in mapper.tasks
        else 0.0
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("knows", [(), (0,), (0, 1, 2)])
def test_honest_tasks_are_all_active_and_cost_two_mappers(kind, knows):
    mine = [own(kind, i) for i in knows]
    others = [other(kind, i) for i in range(8) if i not in knows]
    found = decide(kind, mine, others)
    assert found.active == tuple(c.id for c in [*mine, *others])
    assert not found.held
    assert found.built <= 2
    assert set(found.mapper.tasks) == set(NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mapper_is_that_of_the_active_tasks_and_no_other(kind):
    bad = Candidate("bad", "!bad", "mallory", ATTACKS["copy"](kind))
    found = decide(kind, [own(kind, 0)], [other(kind, 1), bad, other(kind, 2)])
    assert set(found.active) == {"own-0", "id-1", "id-2"}
    same = anchoring(kind).mapper({NAMES[i]: anchor(kind, i) for i in range(3)}, no_images)
    x = features(1, "test")[0]
    assert torch.equal(found.mapper.scores(x), same.scores(x))
    assert torch.equal(found.mapper.map(x).tasks, same.map(x).tasks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("victim_is_own", [True, False])
@pytest.mark.parametrize("place", [0, 3, 5])
def test_hostile_anchors_do_not_become_active(kind, attack, victim_is_own, place):
    """They come before, among and after honest ones; test inputs are none that the gate saw."""
    mine = [own(kind, i) for i in ((0, 1) if victim_is_own else (1, 2))]
    honest = [other(kind, i) for i in range(7) if NAMES[i] not in {c.name for c in mine}]
    bad = Candidate("bad", "!bad", "mallory", ATTACKS[attack](kind))
    if not victim_is_own or attack == "copy of all":
        place = (
            max(place, 1) if attack != "copy of all" else 6
        )  # earlier ones are protected from later ones alone
    found = decide(kind, mine, [*honest[:place], bad, *honest[place:]])
    assert "bad" in found.held
    assert found.held["bad"].startswith(("overlaps task 'birds': takes", "overlaps task", "makes"))
    assert set(found.active) == {c.id for c in [*mine, *honest]}


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_listed_later_can_be_kept_out_by_who_is_listed_before(kind):
    """A limit: between two others there is no telling whose a task is. Own tasks and earlier authors are safe."""
    bad = Candidate("bad", "!bad", "mallory", anchor(kind, 2))
    found = decide(kind, [own(kind, 0)], [other(kind, 1), bad, other(kind, 2), other(kind, 3)])
    assert found.active == ("own-0", "id-1", "bad", "id-3")
    assert found.held == {"id-2": "overlaps task '!bad': takes 100 % of it"}


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_gate_the_same_anchors_do_harm(kind):
    """What the tests above would show if there were no gate."""
    honest = {NAMES[i]: anchor(kind, i) for i in range(7)}
    x = features(0, "test")[0]
    for attack in ("copy", "crowd"):
        mapper = anchoring(kind).mapper({**honest, "!bad": ATTACKS[attack](kind)}, no_images)
        assert share_given_to(mapper, "!bad", x) > 0.3, attack
    mapper = anchoring(kind).mapper({**honest, "!bad": far_out(kind)}, no_images)
    before = anchoring(kind).mapper(honest, no_images)
    far = far_inputs([own(kind, 0)], WIDTH, seed=9)
    assert before.map(far).known.float().mean() < 0.1
    assert mapper.map(far).known.float().mean() > 0.3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first_is_own", [True, False])
def test_the_same_task_taught_by_another_from_other_inputs_overlaps(kind, first_is_own):
    again = Candidate("again", "birds again", "somebody", anchor(kind, 0, seed=1))
    first = own(kind, 0) if first_is_own else other(kind, 0)
    mine = [own(kind, 1), *([first] if first_is_own else [])]
    others = [*([] if first_is_own else [first]), other(kind, 2), other(kind, 3), again]
    found = decide(kind, mine, others)
    assert set(found.held) == {"again"}
    assert found.held["again"].startswith("overlaps task 'birds': takes ")
    assert int(found.held["again"].split("takes ")[1].split(" %")[0]) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_many_modules_of_one_author_cannot_take_together_what_one_may_not(kind):
    """Each sits on a few inputs of the victim and takes less than the limit; by different authors all may join."""
    probes = normalize(features(0, "val", 3)[0], dim=1)
    swarm = [
        Candidate(
            f"swarm-{i:02d}", f"swarm {i}", "mallory", means_of(anchor(kind, 0), 0.9 * probes[i : i + 1])
        )
        for i in range(24)
    ]
    mine = [own(kind, i) for i in (0, 1, 2)]
    alone = anchoring(kind).mapper({c.name: c.anchor for c in mine}, no_images)
    found = decide(kind, mine, [other(kind, 3), *swarm])
    assert any("its author's modules together take" in reason for reason in found.held.values())
    x = mine[0].probes.float()
    right = alone.map(x).tasks == alone.tasks.index("birds")
    taken = [found.mapper.tasks[t].startswith("swarm") for t in found.mapper.scores(x).argmax(1).tolist()]
    assert 0 < int((right & torch.tensor(taken)).sum()) <= 0.05 * len(x)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exact_copy_gains_nothing_by_its_name(kind):
    """Equal scores go to the first name; the gate sees the tie whatever the names are."""
    for name in ("!first", "zlast"):
        copy = Candidate("copy", name, "mallory", anchor(kind, 0))
        for mine, others in (
            ([own(kind, 0), own(kind, 1)], [copy]),
            ([own(kind, 1)], [other(kind, 0), copy]),
        ):
            reason = decide(kind, mine, others).held["copy"]
            assert reason.startswith("overlaps task 'birds': takes ")
            assert int(reason.split("takes ")[1].split(" %")[0]) > 50


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "birds"}, "already"),
        ({"name": ""}, "name"),
        ({"anchor": anchor("mahalanobis", 1)._replace(means=torch.full((3, WIDTH), torch.nan))}, "finite"),
        ({"anchor": anchor("mahalanobis", 1)._replace(means=torch.full((3, WIDTH), 9.0))}, "longer than 1"),
        ({"anchor": means_of(anchor("mahalanobis", 1), torch.zeros(3, 5))}, "dimensions"),
        ({"anchor": anchor("gmm", 1)}, "expected an anchor for mahalanobis"),
    ],
)
def test_what_cannot_be_used_is_held_with_its_reason_and_hinders_nobody(change, words):
    kind = "mahalanobis"
    bad = replace(other(kind, 1), id="bad", **{"name": "bad", **change})
    found = decide(kind, [own(kind, 0)], [bad, other(kind, 2)])
    assert found.active == ("own-0", "id-2")
    assert found.held["bad"].startswith("cannot be used: ")
    assert words in found.held["bad"]


def test_scores_that_are_no_numbers_are_held_too():
    """As published, each component has a covariance of its own, and float32 can be overflowed by a tiny one."""
    setting = {"covariance": "own", "probes": 32}
    gmm = Anchoring("gmm", setting)
    made = {i: gmm.fit(*features(i, "train"), features(i, "val")[0], 0, list) for i in (0, 1, 2)}
    bad = made[2]._replace(variances=torch.full_like(made[2].variances, 1e-45))
    mine = Candidate("own", "birds", "me", made[0], features(0, "val")[0].half())
    others = [Candidate("bad", "!bad", "mallory", bad), Candidate("good", "cells", "other", made[1])]
    found = activate([mine], others, gmm, no_images)
    assert found.active == ("own", "good")
    assert found.held == {"bad": "makes scores that are no numbers"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_author_cannot_keep_an_agent_busy_with_ever_more_hostile_modules(kind):
    many = [
        Candidate(
            f"bad-{i:03d}", f"bad {i}", "mallory", means_of(anchor(kind, 0), 0.999 * anchor(kind, 0).means)
        )
        for i in range(60)
    ]
    found = decide(kind, [own(kind, 0), own(kind, 1)], [*many, other(kind, 2)], strikes=3)
    assert found.active == ("own-0", "own-1", "id-2")
    assert set(found.held) == {c.id for c in many}
    assert (
        sum(reason.startswith("not tried: 3 modules of its author") for reason in found.held.values()) == 57
    )
    assert found.built <= 2 + 3 * 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("authors", [1, 40])
@pytest.mark.parametrize("victim_is_own", [True, False])
def test_many_near_copies_cannot_hide_by_sharing_what_they_take(kind, authors, victim_is_own):
    """Together in one mapper each of forty copies takes a fortieth; by itself, the first would take half."""
    g = generator("copies")
    copies = []
    for i in range(40):
        noise = 0.01 * torch.randn(anchor(kind, 0).means.shape, generator=g)
        means = normalize(anchor(kind, 0).means + noise, dim=1) * 0.999
        copies.append(
            Candidate(f"bad-{i:03d}", f"bad {i}", f"mallory {i % authors}", means_of(anchor(kind, 0), means))
        )
    if victim_is_own:
        found = decide(kind, [own(kind, i) for i in range(3)], [*copies, other(kind, 3)])
    else:
        found = decide(kind, [own(kind, i) for i in (1, 2)], [other(kind, 0), *copies, other(kind, 3)])
    assert len(found.held) >= 38  # one or two may by chance be too bad a copy to take much
    scores = found.mapper.scores(features(0, "test")[0])
    taken = [found.mapper.tasks[t].startswith("bad") for t in scores.argmax(1).tolist()]
    # of others' tasks the gate sees a few dozen samples, and an honest small loss looks like a dishonest one
    assert sum(taken) <= (0.1 if victim_is_own else 0.25) * len(taken)


def test_an_author_cannot_fill_the_memory():
    kind = "mahalanobis"
    others = [other(kind, i, "busy") for i in (1, 2, 3)] + [other(kind, 4)]
    rows = sum(len(getattr(anchor(kind, 1), name)) for name in ("means", "examples", "probes"))
    found = decide(kind, [own(kind, 0)], others, samples=2 * rows)
    assert found.active == ("own-0", "id-1", "id-2", "id-4")
    assert found.held == {"id-3": f"its author's anchors bring more than {2 * rows} samples"}


def test_own_tasks_are_active_whatever_they_do_to_each_other():
    kind = "mahalanobis"
    mine = [own(kind, 0), replace(own(kind, 0), id="own-again", name="birds again")]
    found = decide(kind, mine, [other(kind, 1)])
    assert found.active == ("own-0", "own-again", "id-1")


def test_a_damaged_own_anchor_is_an_error_and_not_a_guess():
    kind = "mahalanobis"
    bad = replace(own(kind, 0), anchor=anchor(kind, 0)._replace(means=torch.full((3, WIDTH), torch.nan)))
    with pytest.raises(DataError, match="finite"):
        decide(kind, [bad], [])


def test_nothing_to_answer_from_is_no_error():
    assert decide("mahalanobis", [], []).active == ()
    assert decide("mahalanobis", [], []).mapper is None


def test_anchors_may_bring_pictures_which_the_receiver_looks_at_once():
    looked = []

    def see(x):
        looked.append(len(x))
        return x.float().flatten(1)[:, :WIDTH]

    pictures = Anchoring("mahalanobis-images", {"probes": 0})
    g = generator("pictures")
    made = []
    for name in ("one", "two", "three"):
        base = torch.randint(0, 200, (1, 3, 3, 3), generator=g)
        x = (base + torch.randint(0, 50, (40, 3, 3, 3), generator=g)).to(torch.uint8)
        fitted = pictures.fit(see(x), torch.arange(40) % 2, torch.zeros(0), 0, lambda i, x=x: x[i])
        made.append(Candidate(name, name, name, fitted))
    looked.clear()
    found = activate(made[:1], [*made[1:], replace(made[0], id="copy", name="copy")], pictures, see)
    assert found.active == ("one", "two", "three")
    assert found.held["copy"].startswith("overlaps task 'one'")
    assert looked == [10] * 4


# Order

KIND_SETS = st.lists(
    st.sampled_from(["honest", "copy", "near copy", "crowd", "far out"]), min_size=5, max_size=5
)


def mixed(kind, roles):
    """Modules in the fixed order of an agent: some honest, some hostile."""
    found = []
    for i, role in enumerate(roles, 3):
        a = anchor(kind, i) if role == "honest" else ATTACKS[role](kind)
        found.append(Candidate(f"id-{i}", f"task {i}", f"author-{i}", a))
    return found


ROLES = ["copy", "honest", "far out", "honest", "near copy"]


class Remembering:
    """An anchoring that makes no mapper twice; that the order of anchors changes no bit of one is tested elsewhere."""

    def __init__(self, kind):
        self.base, self.made = anchoring(kind), {}
        self.read, self.check = self.base.read, self.base.check

    def mapper(self, anchors, features):
        key = frozenset(anchors)
        if key not in self.made:
            self.made[key] = self.base.mapper(anchors, features)
        return self.made[key]


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_orders_of_arrival_give_the_same_activation(kind):
    """An agent asks again when modules arrived, with all that it holds in the fixed order."""
    modules, mine = mixed(kind, ROLES), [own(kind, i) for i in range(3)]
    remembering = Remembering(kind)
    found, answers, rng = set(), {}, random.Random(0)
    for time in range(100):
        rng.shuffle(mine)
        bank = {}
        for module in rng.sample(modules, len(modules)):
            bank[module.id] = module
            if time < 5 or len(bank) == len(modules):
                others = sorted(bank.values(), key=lambda c: c.id)
                question = tuple(c.id for c in [*mine, *others])
                if question not in answers:  # the very same question is asked again at the end
                    answers[question] = activate(mine, others, remembering, no_images)
                now = answers[question]
                assert set(now.active) | set(now.held) == {c.id for c in [*mine, *bank.values()]}
        found.add((now.active, tuple(sorted(now.held.items()))))
    now = activate(mine, others, remembering, no_images)
    found.add((now.active, tuple(sorted(now.held.items()))))
    assert len(found) == 1
    assert now.active == ("own-0", "own-1", "own-2", "id-4", "id-6")


@settings(max_examples=25, deadline=None)
@example(roles=["honest", "copy", "honest", "honest", "honest"], kind="mahalanobis")
@given(roles=KIND_SETS, kind=st.sampled_from(KINDS))
def test_trying_all_at_once_finds_what_trying_one_by_one_finds(roles, kind):
    mine, others = [own(kind, i) for i in range(3)], mixed(kind, roles)
    found = decide(kind, mine, others)
    expected = one_by_one(kind, mine, others)
    # Beside few others an honest module may look worse than beside all, at once it joins (decision 0007; in about
    # one set of a hundred here). Nothing else differs.
    honest = {f"id-{i}" for i, role in enumerate(roles, 3) if role == "honest"}
    assert [id_ for id_ in found.active if id_ in expected] == list(expected)
    assert set(found.active) - set(expected) <= honest
    assert found.built <= 2 + 5 * sum(role != "honest" for role in roles)


def one_by_one(kind, mine, others, taken=0.05):
    """The naive twin, written from the rule: a mapper for every module, and every sample looked at by itself."""
    active = list(mine)
    far = far_inputs(mine, WIDTH)
    first = mapper_of(kind, active)
    for candidate in others:
        before, after = mapper_of(kind, active), mapper_of(kind, [*active, candidate])
        harmed = False
        for i, member in enumerate(active):
            is_own = i < len(mine)
            old, new = (list(samples_of(m, member, is_own)) for m in (before, after))
            took = astray = 0
            for (a, near_a, known_a), (b, near_b, known_b) in zip(old, new, strict=True):
                assert a == b == member.name
                if near_a != {a} or not known_a:
                    continue
                took += candidate.name in near_b
                astray += candidate.name not in near_b and (near_b != {a} or not known_b)
            believed = tolerated(len(new), taken, 0.2)
            harmed |= took > (int(taken * len(new)) if is_own else believed) or astray > believed
        risen = known_share(after, far) - known_share(first, far)
        if not harmed and risen <= 0.05:
            active.append(candidate)
    return tuple(c.id for c in active)


def mapper_of(kind, members):
    return anchoring(kind).mapper({c.name: c.anchor for c in members}, no_images)


def known_share(mapper, x):
    return float(mapper.map(x).known.float().mean())


def samples_of(mapper, member, is_own):
    """(task, the tasks that score highest, known) of each of a member's samples."""
    if is_own:
        scores, margins = mapper.nearness(member.probes.float())
    else:
        owner, scores, margins = mapper.samples
        rows = owner == mapper.tasks.index(member.name)
        scores, margins = scores[rows], margins[rows]
    for row, margin in zip(scores.tolist(), margins.tolist(), strict=True):
        best = max(row)
        yield (
            member.name,
            {
                n
                for n, s in zip(mapper.tasks, row, strict=True)
                if s >= best - max(TIE, NEARLY * mapper.temperature)
            },
            margin >= 0,
        )


# Small parts


def test_few_samples_are_only_believed_where_chance_would_hardly_do_it():
    """The exact binomial tail: P(X > k) <= doubt < P(X >= k)."""
    for n in (1, 5, 16, 28, 100, 400):
        for doubt in (0.05, 0.2, 0.5):
            k = tolerated(n, 0.05, doubt)
            tail = torch.distributions.Binomial(n, torch.tensor(0.05, dtype=torch.float64))
            chance = tail.log_prob(torch.arange(n + 1, dtype=torch.float64)).exp()
            assert float(chance[k + 1 :].sum()) <= doubt + 1e-9
            assert float(chance[k:].sum()) > doubt - 1e-9


def test_far_inputs_are_as_long_as_inputs_and_known_to_nobody():
    kind = "mahalanobis"
    far = far_inputs([own(kind, 0), own(kind, 1)], WIDTH)
    lengths = torch.cat([features(i, "val")[0] for i in (0, 1)]).norm(dim=1)
    assert float(far.norm(dim=1).min()) >= 0.9 * float(lengths.min())
    assert float(far.norm(dim=1).max()) <= 1.1 * float(lengths.max())
    assert known_share(mapper_of(kind, [own(kind, i) for i in range(8)]), far) < 0.1
    assert torch.equal(far, far_inputs([own(kind, 0), own(kind, 1)], WIDTH))
    assert len(far_inputs([other(kind, 0)], WIDTH)) > 0


@pytest.mark.parametrize(
    "setting", [{"taken": 2}, {"loosened": -1}, {"doubt": 0}, {"lost": 2}, {"weak": 2}, {"strikes": 0}]
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(SettingError):
        GateSettings(**setting)


def test_an_activation_says_what_it_is():
    found = decide("mahalanobis", [own("mahalanobis", 0)], [])
    assert isinstance(found, Activation)
    assert found.active == ("own-0",)
    assert isinstance(anchor("mahalanobis", 0), MahalanobisAnchor)
