"""What an agent's owner decided and never passes on: how much others' modules may take."""

from dataclasses import asdict
from pathlib import Path
from typing import Final

from stolon import records
from stolon.sharing.gate import GateSettings

GATE: Final = "gate"
"""Where in a store it lies."""


def read_gate(store: Path) -> GateSettings:
    """How much others may take, as a store says; the defaults where it says nothing.

    Raises:
        StoreDamagedError: the file's bytes are not those that were written.
    """
    if not records.exists(store / GATE):
        return GateSettings()
    return GateSettings(**records.document(store / GATE, "gate"))


def write_gate(store: Path, gate: GateSettings) -> None:
    """Make a store say how much others may take.

    Raises:
        StoreFullError: the disk refused.
    """
    records.save(records.Record("gate", asdict(gate)), store / GATE)
