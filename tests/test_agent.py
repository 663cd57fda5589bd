"""An agent: what it learned and what it got, offline and with others over a link in memory."""

import threading
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from stolon.agent import DECLINED, Agent
from stolon.errors import (
    ModuleRefusedError,
    StoreLockedError,
    TaskError,
    TaskExistsError,
    TaskUnknownError,
)
from stolon.light import anchoring
from stolon.light.config import LightweightConfig
from stolon.light.mappers import TwoLevelMapper
from stolon.links.memory import MemoryNetwork
from stolon.nets.backbone import Backbone
from stolon.sharing import upkeep
from stolon.sharing.trust import Author
from stolon.tasks import Split, Task

PLACES = {"left": 0, "middle": 3, "right": 6}
CONFIG = LightweightConfig(epochs=20, learning_rate=0.05)


def backbone(seed=0):
    torch.manual_seed(seed)
    return Backbone(nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 8)), None, "toy")


def task(name, place, classes=("even", "odd"), n=80):
    generator = torch.Generator().manual_seed(sum(name.encode()))
    x = torch.randn(n, 12, generator=generator) * 0.3
    x[:, place] += 3
    y = torch.arange(n) % len(classes)
    x[:, (place + 5) % 12] += y * 2.0
    parts = [
        Split.of(x[part], y[part])
        for part in (slice(0, n // 2), slice(n // 2, 3 * n // 4), slice(3 * n // 4, n))
    ]
    return Task(name, classes, *parts)


def learn(agent, *tasks):
    for one in tasks:
        for _ in agent.learn(one):
            pass


@pytest.fixture
def make(tmp_path):
    made = []

    def one(name, **given):
        folder = tmp_path / name
        if not folder.exists():
            Agent.create(folder, backbone(), CONFIG).close()
        agent = Agent(folder, backbone(), **given)
        made.append(agent)
        return agent

    yield one
    for agent in made:
        agent.close()


def trusting(*agents):
    for one in agents:
        trust = one.trust
        for other in agents:
            if other is not one:
                trust = trust.adding(Author(other.key.public, f"agent-{other.folder.name}"))
                one.set_trust(trust)
                trust = one.trust


class TestAlone:
    def test_what_it_learned_is_answered_after_it_was_closed_and_opened(self, make, tmp_path):
        agent = make("a")
        learn(agent, task("left", 0), task("right", 6))
        x, _ = task("right", 6).test.batch(torch.arange(20))
        before = agent.predict(x)
        assert before.tasks.count("right") >= 18
        agent.close()
        for write in (True, False):
            with Agent(tmp_path / "a", backbone(), write=write) as again:
                after = again.predict(x)
                assert torch.equal(after.confidence, before.confidence)
                assert after.tasks == before.tasks
                assert [status.active for status in again.modules()] == [True, True]

    def test_an_unsharable_name_is_refused_before_anything_is_learned(self, make):
        agent = make("a")
        with pytest.raises(TaskError, match="<b>"):
            agent.learn(task("<b>", 0))
        with pytest.raises(TaskError, match="/"):
            agent.learn(task("fine", 0, classes=("a/b", "c")))
        assert agent.store.learner.unfinished is None
        assert agent.tasks == ()

    def test_a_task_learned_by_the_store_alone_is_packed_when_an_agent_opens_it(self, make, tmp_path):
        agent = make("a")
        for _ in agent.store.learn(task("left", 0)):
            pass
        assert agent.tasks == ()
        agent.close()
        with Agent(tmp_path / "a", backbone(), write=False) as reader:
            assert reader.unpacked == ("left",)
        with Agent(tmp_path / "a", backbone()) as writer:
            assert writer.tasks == ("left",)

    def test_finishing_twice_is_finishing_once(self, make):
        agent = make("a")
        left = task("left", 0)
        learn(agent, left)
        ids = agent.bank.ids()
        agent.finish(left)
        assert agent.bank.ids() == ids

    def test_nothing_known_is_said(self, make):
        agent = make("a")
        with pytest.raises(TaskUnknownError, match="no task was learned or received"):
            agent.predict(torch.zeros(1, 12))
        with pytest.raises(TaskUnknownError, match="unknown task 'x'"):
            agent.forget("x")
        with pytest.raises(TaskUnknownError, match="unknown task 'x'"):
            agent.export("x")

    def test_a_forgotten_task_is_gone_and_can_be_learned_again(self, make):
        agent = make("a")
        left = task("left", 0)
        learn(agent, left, task("right", 6))
        agent.forget("left")
        assert agent.tasks == ("right",)
        with pytest.raises(TaskUnknownError):
            agent.predict(torch.zeros(1, 12), "left")
        learn(agent, left)
        assert agent.tasks == ("left", "right")
        assert agent.bank.versions(agent.key.public, "left")[-1].manifest.seq == 2
        with pytest.raises(TaskExistsError):
            learn(agent, left)

    def test_reading_needs_no_lock_and_writes_nothing(self, make, tmp_path):
        agent = make("a")
        learn(agent, task("left", 0))
        with Agent(tmp_path / "a", backbone(), write=False) as reader:
            assert reader.tasks == ("left",)
            with pytest.raises(StoreLockedError):
                reader.start()
        with pytest.raises(StoreLockedError):
            Agent(tmp_path / "a", backbone())

    def test_an_agent_of_many_tasks_answers_and_tells_as_before(self, make, tmp_path, monkeypatch):
        """Two levels in place of a flat mapper: tests/light/test_anchoring.py looks at what that changes."""
        gaussian = replace(CONFIG, anchor="gmm", anchor_settings={"samples_per_component": 5})
        with Agent.create(tmp_path / "a", backbone(), gaussian) as flat:
            learn(flat, *(task(name, place) for name, place in PLACES.items()))
            x = torch.cat(
                [task(name, place).test.batch(torch.arange(20))[0] for name, place in PLACES.items()]
            )
            expected, confusion = flat.predict(x), flat.confusion()
        monkeypatch.setattr(anchoring, "MANY", 2)
        with Agent(tmp_path / "a", backbone()) as many:
            found = many.predict(x)
            assert isinstance(many._repertoire.now.answering.mapper, TwoLevelMapper)
            assert (found.tasks, found.classes) == (expected.tasks, expected.classes)
            torch.testing.assert_close(found.confidence, expected.confidence, rtol=0, atol=1e-3)
            assert many.confusion() == confusion


class TestFiles:
    def test_a_module_goes_from_hand_to_hand(self, make):
        one, two = make("a"), make("b")
        learn(one, task("left", 0))
        learn(two, task("right", 6))
        file = one.export("left")
        with pytest.raises(ModuleRefusedError) as refused:
            two.receive(file)
        assert refused.value.code == "unknown-author"
        trusting(one, two)
        id_ = two.receive(file)
        assert two.receive(file) == id_
        one.receive(two.export("right"))
        assert one.tasks == two.tasks == ("left", "right")
        x = torch.cat(
            [
                task("left", 0).test.batch(torch.arange(20))[0],
                task("right", 6).test.batch(torch.arange(20))[0],
            ]
        )
        mine, theirs = one.predict(x), two.predict(x)
        assert torch.equal(mine.confidence, theirs.confidence)
        assert mine.tasks == theirs.tasks
        assert mine.classes == theirs.classes
        (status,) = [status for status in two.modules() if not status.is_own]
        assert status.author_name == "agent-a"
        assert status.metrics["test_accuracy"] > 0.8

    def test_a_full_precision_module_holds_the_very_numbers(self, make):
        one, two = make("a"), make("b")
        trusting(one, two)
        learn(one, task("left", 0))
        id_ = two.receive(one.export("left", "full"))
        from stolon.sharing import lightweight

        got = lightweight.knowledge(two.bank.module(id_)).tensors()
        for name, tensor in one.store.learner.knowledge("left").tensors().items():
            assert torch.equal(got[name], tensor), name
        with pytest.raises(TaskUnknownError, match="not learned in this store"):
            two.export("left", "half")

    def test_what_its_owner_declined_stays_out_until_it_is_taken_in_by_hand(self, make):
        one, two = make("a"), make("b")
        trusting(one, two)
        learn(one, task("left", 0))
        file = one.export("left")
        two.receive(file)
        two.forget("left")
        assert two.tasks == ()
        (status,) = two.modules()
        assert (status.active, status.reason) == (False, DECLINED)
        two.receive(file)
        assert two.tasks == ("left",)

    def test_revoking_an_author_takes_their_tasks_out_of_use_at_once(self, make):
        one, two = make("a"), make("b")
        trusting(one, two)
        learn(one, task("left", 0))
        two.receive(one.export("left"))
        two.set_trust(two.trust.revoking(one.key.public))
        assert two.tasks == ()
        assert two.modules() == ()

    def test_two_tasks_of_one_name_are_told_apart(self, make):
        one, two, three = make("a"), make("b"), make("c")
        trusting(one, two, three)
        learn(one, task("left", 0))
        learn(two, task("left", 4))
        learn(three, task("left", 8))
        for agent, others in ((one, (two, three)), (two, (one, three)), (three, (one, two))):
            for other in others:
                agent.receive(other.export("left"))
            expected = {
                "left",
                *(f"left @{other.key.public[:4]}-{other.key.public[4:8]}" for other in others),
            }
            assert {status.name for status in agent.modules()} == expected

    def test_a_module_of_another_backbone_is_refused_by_its_code(self, make, tmp_path):
        one = make("a")
        learn(one, task("left", 0))
        with Agent.create(tmp_path / "other", backbone(1), CONFIG) as other:
            other.set_trust(other.trust.adding(Author(one.key.public, "one")))
            with pytest.raises(ModuleRefusedError) as refused:
                other.receive(one.export("left"))
        assert refused.value.code == "other-backbone"


def wait_for(condition, seconds=20.0):
    """Look at a condition until it holds; the seconds are a bound, not a wait."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to hold in time"
        time.sleep(0.02)


class TestOnline:
    def test_what_one_learns_all_answer_alike(self, make):
        network = MemoryNetwork()
        agents = [make(name, link=network.link()) for name in "abc"]
        trusting(*agents)
        learn(agents[0], task("left", 0))  # offline: told when it comes online
        for agent in agents:
            agent.start()
        learn(agents[1], task("right", 6))
        learn(agents[2], task("middle", 3))
        wait_for(lambda: all(len(agent.tasks) == 3 for agent in agents))
        assert len({agent.bank.digest() for agent in agents}) == 1
        x = torch.cat([task(name, place).test.batch(torch.arange(20))[0] for name, place in PLACES.items()])
        first, *others = [agent.predict(x) for agent in agents]
        for other in others:
            assert torch.equal(other.confidence, first.confidence)
            assert torch.equal(other.labels, first.labels)
            assert other.tasks == first.tasks
        wait_for(lambda: [peer.equal for peer in agents[0].peers()] == [True, True])
        sent, received = agents[0].traffic()
        assert sent.blob > 0
        assert received.blob > 0

    def test_a_revocation_reaches_the_others(self, make):
        network = MemoryNetwork()
        one, two = make("a", link=network.link()), make("b", link=network.link())
        trusting(one, two)
        one.start()
        two.start()
        learn(one, task("left", 0))
        wait_for(lambda: two.tasks == ("left",))
        one.forget("left")
        wait_for(lambda: two.tasks == ())

    def test_a_stranger_is_offered_not_taken_until_it_is_trusted(self, make):
        network = MemoryNetwork()
        one, two = make("a", link=network.link()), make("b", link=network.link())
        one.start()
        two.start()
        learn(one, task("left", 0))
        wait_for(lambda: two.offers() == ((one.key.public, "left"),))
        assert two.bank.ids() == frozenset()
        two.set_trust(two.trust.adding(Author(one.key.public, "one")))
        wait_for(lambda: two.tasks == ("left",))
        assert two.offers() == ()

    def test_the_confusion_has_a_row_for_every_task_whoever_taught_it(self, make):
        one, two = make("a"), make("b")
        assert one.confusion() is None
        trusting(one, two)
        learn(one, task("left", 0))
        learn(two, task("right", 6))
        two.receive(one.export("left"))
        names, rows = two.confusion()
        assert names == ("left", "right")
        for index, row in enumerate(rows):
            assert sum(row) == pytest.approx(1)
            assert row[index] > 0.8

    def test_what_rots_on_the_disk_of_a_running_agent_is_fetched_again(self, make, monkeypatch):
        monkeypatch.setattr(upkeep, "PAUSE_S", 0.02)
        network = MemoryNetwork()
        one, two = make("a", link=network.link()), make("b", link=network.link())
        trusting(one, two)
        learn(one, task("left", 0))
        one.start()
        two.start()
        wait_for(lambda: two.tasks == ("left",))
        path = next((two.bank.folder / "blobs").rglob("*/*"))
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        wait_for(lambda: path.exists() and path.read_bytes() == good and two.bank.ids() == one.bank.ids())

    def test_closing_ends_its_threads(self, make):
        before = {thread.name for thread in threading.enumerate()}
        agent = make("a", link=MemoryNetwork().link())
        agent.start()
        agent.start()
        agent.close()
        agent.close()
        assert {thread.name for thread in threading.enumerate()} <= before
