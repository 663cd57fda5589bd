"""Banks over Zenoh: what reliability.md promises of agents on a network; the long versions are in benchmarks/."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agents import BACKBONE, synthetic_module
from chaos import damaged_on_disk, storm
from fleet import Fleet
from partition import split_and_heal
from proxy import Network
from tests.links.ears import until

from stolon.links.zenoh import ZenohLink
from stolon.links.zenoh_settings import ZenohSettings
from stolon.sharing.bank import Bank
from stolon.sharing.envelope import TRUST, seal
from stolon.sharing.exchange.driver import Driver
from stolon.sharing.exchange.engine import Exchange
from stolon.sharing.exchange.ports import ExchangeSettings
from stolon.sharing.holdings import BankHoldings
from stolon.sharing.keys import Key
from stolon.sharing.module import pack
from stolon.sharing.trust import Author, Trust

KEYS = [Key(bytes([number]) * 32) for number in range(3)]
HASTY = ExchangeSettings(hint_s=0.5, round_s=0.2, index_timeout_s=0.5, blob_timeout_s=1.0, silent_s=1.5)


class Member:
    """A bank, an exchange and a link in this process."""

    def __init__(self, number: int, folder: Path, link: ZenohSettings) -> None:
        self.key, self.bank = KEYS[number], Bank(folder / f"bank-{number}")
        trust = Trust.fresh(self.key.public)
        for other in KEYS:
            if other is not self.key:
                trust = trust.adding(Author(other.public, f"agent {KEYS.index(other)}"))
        self.bank.set_trust(seal(TRUST, trust.to_payload(), self.key))
        holdings = BankHoldings(self.bank, BACKBONE)
        self.link = ZenohLink(link)
        self.exchange = Exchange(self.key.public, holdings, random.Random(number), HASTY)
        self.driver = Driver(self.exchange, holdings, self.link)

    def add(self, number: int) -> str:
        id_ = self.bank.add(pack(synthetic_module(self.key.public, number), self.key))
        self.driver.changed()
        return id_

    @property
    def port(self) -> int:
        return int(self.link.endpoints[0].rsplit(":", 1)[1])


@contextmanager
def member(number: int, folder: Path, *connect: int) -> Iterator[Member]:
    settings = ZenohSettings(
        connect=tuple(f"tcp/127.0.0.1:{port}" for port in connect), retry_s=0.1, lease_s=4.0
    )
    joined = Member(number, folder, settings)
    joined.driver.start()
    try:
        yield joined
    finally:
        joined.driver.stop()
        joined.bank.close()


def test_who_comes_late_gets_everything_also_from_one_who_only_passes_it_on(tmp_path: Path):
    with member(0, tmp_path) as first:
        ids = {first.add(number) for number in range(3)}
        with member(1, tmp_path, first.port) as second:
            assert until(lambda: second.bank.ids() == ids)
            # Not connected to the first: modules come by way of the second.
            with member(2, tmp_path, second.port) as third:
                assert until(lambda: third.bank.ids() == ids)
                own = third.add(0)
                assert until(lambda: first.bank.ids() == ids | {own})
                assert first.bank.digest() == third.bank.digest()


def test_a_link_that_looks_alive_but_carries_nothing_is_opened_anew_and_sharing_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "stolon.links.zenoh")
    with Network() as network, member(0, tmp_path) as first:
        proxy = network.proxy(first.port, framed=True)
        with member(1, tmp_path, proxy.port) as second:
            one = first.add(0)
            assert until(lambda: one in second.bank.ids())
            opened = [record.message for record in caplog.records].count("link open")
            proxy.starve()
            began = time.monotonic()
            other = first.add(1)
            assert until(lambda: other in second.bank.ids(), 10)
            # It took the watchdog: neither did it come through, nor was the connection given up for its lease.
            assert HASTY.silent_s < time.monotonic() - began
            assert [record.message for record in caplog.records].count("link open") > opened


def test_real_processes_split_and_healed_and_killed_are_equal_and_whole_in_the_end(tmp_path: Path):
    with Fleet(3, tmp_path) as fleet:
        fleet.start(120)
        rng = random.Random(0)
        repeat = split_and_heal(fleet, rng, by="reset", split_s=1.5, modules=3)
        assert repeat.holds, repeat
        figures = storm(fleet, rng, seconds=1.2, every_s=0.6, down_s=0.3)
        assert figures["kills"] >= 1
        assert figures["missing"] == 0
        assert figures["damaged_while_running"] == 0
        assert figures["seconds_until_equal"] is not None
        assert figures["seconds_until_equal"] < 15
    assert damaged_on_disk(fleet) == 0
