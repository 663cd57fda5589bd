"""Knowledge that agents pass on: the module, its signature, the bank, the exchange.

Importing this package imports nothing heavy; the names below are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stolon.sharing.acceptance import Accepted, Wanted, accept, judge
    from stolon.sharing.bank import Bank, Stored
    from stolon.sharing.codes import Code, Refused
    from stolon.sharing.keys import Key, fingerprint
    from stolon.sharing.manifest import Manifest
    from stolon.sharing.module import TaskModule, pack, unpack
    from stolon.sharing.revocation import Revocation, revoke
    from stolon.sharing.trust import Author, Trust

_HOME = {
    "Accepted": "acceptance",
    "Author": "trust",
    "Bank": "bank",
    "Code": "codes",
    "Key": "keys",
    "Manifest": "manifest",
    "Refused": "codes",
    "Revocation": "revocation",
    "Stored": "bank",
    "TaskModule": "module",
    "Trust": "trust",
    "Wanted": "acceptance",
    "accept": "acceptance",
    "fingerprint": "keys",
    "judge": "acceptance",
    "pack": "module",
    "revoke": "revocation",
    "unpack": "module",
}

__all__ = [
    "Accepted",
    "Author",
    "Bank",
    "Code",
    "Key",
    "Manifest",
    "Refused",
    "Revocation",
    "Stored",
    "TaskModule",
    "Trust",
    "Wanted",
    "accept",
    "fingerprint",
    "judge",
    "pack",
    "revoke",
    "unpack",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes are of any type
    if name not in _HOME:
        raise AttributeError(f"module 'stolon.sharing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"stolon.sharing.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
