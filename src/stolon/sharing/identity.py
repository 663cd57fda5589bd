"""Who an agent is: its key, its bank, and whom it trusts. No backbone is opened for it.

::

    STORE/key                  the agent's own Ed25519 key; whoever has it is this agent
    STORE/bank/                signed modules, its own and others', and the trust list
"""

from pathlib import Path
from typing import Final

from stolon.sharing.bank import Bank
from stolon.sharing.envelope import TRUST, seal
from stolon.sharing.keys import Key
from stolon.sharing.trust import Trust

KEY: Final = "key"
BANK: Final = "bank"


def opened(store: Path, *, write: bool) -> tuple[Key, Bank]:
    """The agent's key, and its bank, to be closed by the caller.

    A store from before there were agents gets both where it may be written to, and trusts only itself; else it has a
    key for the time being.

    Raises:
        StoreError: as :class:`~stolon.sharing.bank.Bank`.
        KeyFileError: the key file is damaged, or others may read it.
    """
    bank, path = Bank(store / BANK, write=write), store / KEY
    try:
        if write and not path.exists():
            Key.generate().write(path)
        key = Key.read(path) if path.exists() else Key.generate()
        if write and bank.trust is None:
            set_trust(bank, key, Trust.fresh(key.public))
    except BaseException:
        bank.close()
        raise
    return key, bank


def trust_of(bank: Bank, key: Key) -> Trust:
    """The trust list in use; a bank without one trusts only its owner."""
    return bank.trust or Trust.fresh(key.public)


def set_trust(bank: Bank, key: Key, trust: Trust) -> None:
    """Replace the trust list by a newer one, signed with the agent's key.

    Raises:
        ModuleRefusedError: the key is no root of the list, or the list is not newer.
        StoreFullError: the disk refused.
    """
    bank.set_trust(seal(TRUST, trust.to_payload(), key))
