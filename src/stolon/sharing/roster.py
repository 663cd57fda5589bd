"""Who taught what: the modules of a bank in the one order that every decision is made in."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

from stolon.sharing import view
from stolon.sharing.bank import Stored
from stolon.sharing.keys import fingerprint
from stolon.sharing.trust import Trust


@final
@dataclass(frozen=True)
class Entry:
    """One module that may be answered from.

    Attributes:
        stored: what the bank says of it.
        author_name: what the trust list calls its author.
        is_own: this agent taught it.
    """

    stored: Stored
    author_name: str
    is_own: bool


def order(stored: Iterable[Stored], trust: Trust, own: str) -> tuple[Entry, ...]:
    """The current version of every author's tasks: own ones first, then by the trust list, then by id.

    Modules of authors who are not listed, whose key is revoked, or who may not be active are left out. The
    order is a function of the set and the trust list alone: which came first makes no difference.

    Args:
        stored: all modules of the bank, in any order.
        trust: whom to listen to.
        own: this agent's public key.
    """
    by_id = {one.id: one for one in stored}
    newest = view.current({id_: one.manifest for id_, one in by_id.items()})
    rank = {author.key: position for position, author in enumerate(trust.authors)}
    entries = []
    for id_ in newest:
        author = trust.author(by_id[id_].manifest.author)
        if author is not None and author.activate:
            entries.append(Entry(by_id[id_], author.name, author.key == own))
    return tuple(sorted(entries, key=lambda e: (not e.is_own, rank[e.stored.manifest.author], e.stored.id)))


def shown_names(entries: Sequence[Entry]) -> dict[str, str]:
    """What each task is called in answers, by module id; no two alike.

    An own task keeps its name. Another agent's has the task's name where nobody else taught one of that
    name, and otherwise its author's fingerprint behind it: which of two strangers keeps the plain name must not
    depend on who came first. No module can be *called* like that, since ``@`` is in no name.

    Args:
        entries: the active modules.
    """
    taught = Counter(entry.stored.manifest.task for entry in entries)
    marked = Counter(_marked(entry) for entry in entries)
    names = {}
    for entry in entries:
        manifest = entry.stored.manifest
        if entry.is_own or taught[manifest.task] == 1:
            names[entry.stored.id] = manifest.task
        elif marked[_marked(entry)] == 1:
            names[entry.stored.id] = _marked(entry)
        else:  # somebody has searched for a key that begins like another's
            names[entry.stored.id] = f"{manifest.task} @{manifest.author}"
    return names


def _marked(entry: Entry) -> str:
    return f"{entry.stored.manifest.task} @{fingerprint(entry.stored.manifest.author)}"
