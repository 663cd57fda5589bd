"""The simulation's stories with real modules, the real acceptance and real banks on disk, at a small scale."""

import contextlib
import random
import shutil
from dataclasses import replace

import pytest
from benchmarks.exchange_liars import (
    FalseFingerprints,
    Forger,
    Garbage,
    HalfSilent,
    Replayer,
    Withholder,
    WrongBytes,
)
from benchmarks.exchange_simulation import cut, settle
from benchmarks.exchange_world import World
from tests.sharing.samples import ADA, BACKBONE, BEN, EVE, LISTED, ROOT, packed, sealed

from stolon.errors import ModuleRefusedError
from stolon.sharing.bank import Bank
from stolon.sharing.holdings import BankHoldings
from stolon.sharing.limits import MAX_VERSIONS
from stolon.sharing.revocation import revoke, revoke_as_root

LIARS = (FalseFingerprints, Forger, Garbage, HalfSilent, Replayer, Withholder, WrongBytes)


@pytest.fixture(scope="module")
def files():
    """Modules of three authors; of one task more versions than are kept; and what revokes some."""
    versions = [packed(ADA, "leaves", seq=seq, seed=seq) for seq in range(1, MAX_VERSIONS + 4)]
    others = [packed(key, f"task {n}", kind="mahalanobis", seed=n) for n in range(3) for key in (BEN, ROOT)]
    return versions + others


class Banks:
    """Agents with banks on disk."""

    def __init__(self, world: World, folder, count: int) -> None:
        self.world, self.folder = world, folder
        self.banks = {number: self.opened(number) for number in range(count)}
        for number, bank in self.banks.items():
            world.add(number, BankHoldings(bank, BACKBONE))

    def opened(self, number: int) -> Bank:
        bank = Bank(self.folder / f"{number}")
        if bank.trust is None:
            bank.set_trust(sealed(LISTED, ROOT))
        return bank

    def give(self, number: int, data: bytes, how: str = "add") -> None:
        if self.world.agents[number].exchange is None:
            self.world.at(self.world.t + 1.0, self.give, number, data, how)
            return
        with contextlib.suppress(ModuleRefusedError):  # an old version, where newer ones use up the room
            getattr(self.banks[number], how)(data)
        self.world.changed(self.world.agents[number])

    def kill(self, number: int) -> None:
        self.world.stop(self.world.agents[number])
        self.banks[number].close()

    def again(self, number: int) -> None:
        agent = self.world.agents[number]
        self.banks[number] = self.opened(number)
        agent.holdings = BankHoldings(self.banks[number], BACKBONE)
        self.world.start(agent)

    def copy(self, number: int) -> None:
        shutil.copytree(self.folder / f"{number}", self.folder / f"old {number}")

    def put_back(self, number: int) -> None:
        self.kill(number)
        shutil.rmtree(self.folder / f"{number}")
        shutil.move(self.folder / f"old {number}", self.folder / f"{number}")
        self.again(number)

    def close(self) -> None:
        for bank in self.banks.values():
            bank.close()


@pytest.mark.parametrize("seed", range(3))
def test_real_banks_become_equal_whatever_happens(tmp_path, files, seed):
    rng = random.Random(seed)
    world = World(seed, loss=(0.0, 0.1, 0.2)[seed], repeat=0.1, slow_s=0.05)
    banks = Banks(world, tmp_path, 5)
    for number, kind in enumerate(rng.sample(LIARS, seed + 1), start=5):
        world.add_liar(kind(world, number))
    for data in files:
        world.at(rng.uniform(0, 8), banks.give, rng.randrange(5), data)
    for word in (
        revoke(BEN, "12" * 32),
        revoke_as_root([ROOT], modules=["34" * 32]),
    ):
        world.at(rng.uniform(0, 8), banks.give, rng.randrange(5), word, "revoke")
    world.at(2.0, cut, world, {number: number % 2 for number in range(12)})
    world.at(6.0, cut, world, {})
    world.at(3.0, banks.copy, 1)
    world.at(7.0, banks.put_back, 1)
    world.at(4.0, banks.kill, 2)
    world.at(5.0, banks.again, 2)
    world.run(10.0)
    try:
        assert settle(world) <= 30
        world.run(world.t + 10)
        assert len({bank.digest() for bank in banks.banks.values()}) == 1
        held = banks.banks[0]
        assert len(held.versions(ADA.public, "leaves")) == MAX_VERSIONS
        assert [one.manifest.seq for one in held.modules() if one.manifest.task == "leaves"] == [
            MAX_VERSIONS + 3
        ]
        assert len(held.ids()) == len(files) - 3 + 2
        for one in held.modules():
            assert held.module(one.id).task == one.manifest.task
    finally:
        banks.close()


def test_what_was_revoked_meanwhile_and_what_nobody_listed_spreads_nowhere(tmp_path, files):
    world = World(9, slow_s=0.01)
    banks = Banks(world, tmp_path, 3)
    for number, data in enumerate(files[-4:]):
        banks.give(number % 3, data)
    own = next(iter(banks.banks[0].ids()))
    world.run(5.0)
    key = (
        BEN
        if any(one.manifest.author == BEN.public for one in banks.banks[0].modules() if one.id == own)
        else ROOT
    )
    banks.give(1, revoke(key, own), "revoke")
    banks.banks[2].set_trust(sealed(replace(LISTED, version=2, authors=(*LISTED.authors, author(EVE))), ROOT))
    banks.give(2, packed(EVE, "strange"))
    world.run(15.0)
    try:
        ids = [bank.ids() for bank in banks.banks.values()]
        assert ids[0] == ids[1] < ids[2]
        assert len(ids[0]) == 5
        assert all(own not in {one.id for one in bank.modules()} for bank in banks.banks.values())
    finally:
        banks.close()


def test_a_damaged_blob_is_fetched_again_from_whoever_holds_it(tmp_path, files):
    world = World(11, slow_s=0.01)
    banks = Banks(world, tmp_path, 3)
    for data in files[-3:]:
        banks.give(0, data)
    world.run(5.0)
    before = banks.banks[1].digest()
    for path in (tmp_path / "1" / "blobs").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert banks.banks[1].check()
    assert banks.banks[1].digest() != before
    world.run(20.0)
    try:
        assert banks.banks[1].digest() == before
        assert banks.banks[1].check() == ()
    finally:
        banks.close()


def author(key):
    from stolon.sharing.trust import Author

    return Author(key.public, "Eve", modules=10, bytes=10**6)
