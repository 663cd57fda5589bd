"""Every limit on what others may send us, in one place; each is tested at the limit and one above.

Sizes are in bytes. They bound what a hostile peer can make us read, keep or compute.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# What is signed
MAX_ENVELOPE: Final = 96 * KIB
"""A signed envelope as it is stored and sent: the payload in base64 and its signatures."""
MAX_MANIFEST: Final = 64 * KIB
"""What an envelope carries: a manifest, a trust list or a revocation."""
MAX_SIGNATURES: Final = 8
"""Signatures on one envelope."""
MAX_ROOTS: Final = 8
"""Root keys of a trust list: each of them must be able to sign one envelope."""
MAX_NAME: Final = 64
"""Characters of a task's, a class's or an author's name."""

# A module
MAX_BLOB: Final = 16 * MIB
MAX_BLOB_HEADER: Final = 64 * KIB
MAX_TENSORS: Final = 64
"""Tensors in one blob."""
MAX_CLASSES: Final = 1000
"""Classes of one task."""
MAX_ANCHORS_PER_CLASS: Final = 4

# A bank
MAX_MODULES_PER_AUTHOR: Final = 2000
MAX_BYTES_PER_AUTHOR: Final = 1 * GIB
MAX_VERSIONS: Final = 4
"""Versions of one task that are kept of one author, the newest ones."""
MAX_BANK: Final = 8 * GIB
RESERVE: Final = 64 * MIB
"""Free room on the disk that is left to the agent's own learning."""
MAX_OFFERS: Final = 1000
"""Envelopes of unknown authors that are remembered for people to see; nothing more of them is fetched."""

# The exchange
MAX_MESSAGE: Final = 4 * MIB
MAX_HINT: Final = 1 * KIB
CHUNK: Final = 1 * MIB
"""The part of a blob that is asked for at once."""
MAX_PEERS: Final = 64
HINTS_PER_SECOND: Final = 2
"""Hints that one peer may send, on average ..."""
HINT_BURST: Final = 20
"""... and at once."""
PULLS_PER_PEER: Final = 2
"""Requests under way to one peer ..."""
PULLS: Final = 4
"""... and to all of them together."""
