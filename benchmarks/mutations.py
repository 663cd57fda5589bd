"""Broken modules, made on purpose: for module_mutations.py and its short version among the tests.

Every function makes one broken module file out of a good one and a source of randomness. The *signed* ones are
rightly signed by a listed author, as only a hostile or faulty peer would: the signature does not save us there,
only the checks behind it do. What each makes is wrong by construction, so nothing of it may be accepted.
"""

import base64
import copy
import functools
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch

from stolon.light.anchoring import Anchoring
from stolon.light.answering import TaskKnowledge
from stolon.sharing import blobs, lightweight, module, strict_json
from stolon.sharing.envelope import MODULE, REVOCATION, TRUST, Envelope, open_envelope, pae, seal
from stolon.sharing.keys import Key
from stolon.sharing.task_module import TaskModule
from stolon.sharing.trust import Author, Trust

ROOT, ADA, BEN, EVE = (Key(bytes([number]) * 32) for number in (1, 2, 3, 66))
BACKBONE = "b" * 64
LISTED = Trust(1, (ROOT.public,), 1, (Author(ADA.public, "Ada"), Author(BEN.public, "Ben")))
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the group that signatures are in


@dataclass(frozen=True)
class Good:
    """A good module, in the parts that are broken.

    Attributes:
        file: the whole.
        envelope: its bytes.
        document: the manifest's JSON.
        tensors: by role and name.
    """

    file: bytes
    envelope: bytes
    document: dict
    tensors: dict[str, dict[str, torch.Tensor]]

    @functools.cached_property
    def blobs(self) -> list[bytes]:
        """In the order of the manifest's files."""
        return [blobs.encode(self.tensors[file["role"]]) for file in self.document["files"]]


Maker = Callable[[random.Random, Good], bytes]


@functools.cache
def good(kind: str = "gmm", precision: str = "compact", key: Key = ADA, seed: int = 0) -> Good:
    """A small good module of one kind."""
    g = torch.Generator().manual_seed(seed)
    features, labels = torch.rand(90, 8, generator=g), torch.arange(90) % 3
    pictures = torch.randint(0, 256, (90, 3, 4, 4), dtype=torch.uint8, generator=g)
    anchoring = Anchoring(kind, {})
    anchor = anchoring.fit(features, labels, features[:20], seed, lambda i: pictures[i])
    weight, bias, biases = (torch.randn(shape, generator=g) for shape in ((3, 8), (3,), (5,)))
    about = TaskModule("lightweight", "leaves", ("oak", "ash", "elm"), {}, "digits-conv", BACKBONE)
    made = lightweight.of_knowledge(TaskKnowledge(weight, bias, biases, anchor), about, anchoring, precision)
    file = module.pack(made, key)
    envelope, _ = module.split(file)
    tensors = {role: dict(found) for role, found in made.tensors.items()}
    return Good(file, envelope, json.loads(open_envelope(envelope).payload), tensors)


def retold(start: Good, task: str) -> bytes:
    """The same knowledge under another name: another good module file."""
    return signed({**start.document, "task": task}, start.blobs)


def signed(document: dict | bytes, parts: list[bytes], key: Key = ADA, kind: str = MODULE) -> bytes:
    """A module file of this manifest, rightly signed."""
    payload = document if isinstance(document, bytes) else strict_json.dumps(document)
    return module.join(seal(kind, payload, key), parts)


# Bytes: nobody signed these changes


def any_bytes(rng: random.Random, start: bytes, other: bytes) -> bytes:
    """Neither ``start`` nor ``other``, made of the two by one to three changes of any kind."""
    data = start
    while data in (start, other):
        for _ in range(rng.randint(1, 3)):
            data = rng.choice(_BYTE_CHANGES)(rng, data, other)
    return data


def _flip(rng: random.Random, data: bytes, _: bytes) -> bytes:
    if not data:
        return b"\0"
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def _set(rng: random.Random, data: bytes, _: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + bytes([rng.choice((0, 1, 127, 128, 255, 34, 44, 123, 125))]) + data[place + 1 :]


def _cut(rng: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _delete(rng: random.Random, data: bytes, _: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + data[place + rng.randint(1, 64) :]


def _insert(rng: random.Random, data: bytes, _: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.randint(1, 64)) + data[place:]


def _repeat(rng: random.Random, data: bytes, _: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + data[place : place + rng.randint(1, 200)] * rng.randint(2, 5) + data[place:]


def _splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


_BYTE_CHANGES = (_flip, _flip, _set, _cut, _delete, _insert, _repeat, _splice)


# The file's frame


def frame(rng: random.Random, start: Good) -> bytes:
    """Parts missing, twice, in another order, of another module; lengths that lie."""
    parts, envelope = list(start.blobs), start.envelope
    stranger = good("mahalanobis", seed=1).blobs
    size = len(envelope).to_bytes(4, "big")
    choice = rng.randrange(9)
    if choice == 0:
        return module.join(envelope, parts[:-1])
    if choice == 1:
        return module.join(envelope, parts[::-1])
    if choice == 2:
        return module.join(envelope, [*parts, rng.choice(parts)])
    if choice == 3:
        return module.join(envelope, [*parts[:-1], rng.choice(stranger)])
    if choice == 4:
        return module.join(envelope, [*parts, *[rng.randbytes(3) for _ in range(rng.randint(1, 9))]])
    if choice == 5:
        return start.file + bytes(rng.randint(1, 9))
    if choice == 6:
        lie = rng.choice((0, 1, len(envelope) - 1, len(envelope) + 1, 98_305, 2**31, 2**32 - 1))
        return start.file.replace(size, lie.to_bytes(4, "big"), 1)
    if choice == 7:
        return b"stolon module 2\n" + start.file[16:]
    return module.join(parts[0], [envelope, *parts[1:]])


# The envelope's text


def envelope(rng: random.Random, start: Good) -> bytes:
    """Another form, another signer, another type, a signature that is malleated or for something else."""
    opened, text = open_envelope(start.envelope), start.envelope
    key, signature = opened.signatures[0]
    choice = rng.randrange(14)
    if choice < 5:
        other = (
            text.replace(b'{"payload"', rng.choice((b' {"payload"', b'{ "payload"', b'{"x":1,"payload"')), 1),
            text.replace(b'"payloadType"', b'"payloadType":"x","payloadType"', 1),
            text + rng.choice((b" ", b"\n", b"{}", b"\0")),
            b"\xef\xbb\xbf" + text,
            text.replace(b'"sig":"', b'"sig":"' + rng.choice((b" ", b"\\n", b"=")), 1),
        )[choice]
    elif choice == 5:
        other = b"[" * rng.randint(1, 20_000) + text
    elif choice == 6:
        s = int.from_bytes(signature[32:], "little") + ORDER
        other = _resigned(opened, key, signature[:32] + s.to_bytes(32, "little"))
    elif choice == 7:
        other = _resigned(opened, key, rng.randbytes(64))
    elif choice == 8:
        other = _resigned(opened, rng.choice((BEN, EVE, ROOT)).public, signature)
    elif choice == 9:
        other = _resigned(opened, key, ADA.sign(pae(rng.choice((TRUST, REVOCATION)), opened.payload)))
    elif choice == 10:
        other = Envelope(
            rng.choice((TRUST, REVOCATION, "text/plain")), opened.payload, opened.signatures
        ).encode()
    elif choice == 11:
        other = seal(MODULE, opened.payload, ADA, rng.choice((BEN, EVE)))
    elif choice == 12:
        other = seal(MODULE, opened.payload, rng.choice((EVE, BEN)))
    else:
        payload = base64.b64decode(json.loads(text)["payload"])
        other = Envelope(MODULE, payload + rng.randbytes(rng.randint(1, 9)), opened.signatures).encode()
    return module.join(other, start.blobs)


def _resigned(opened: Envelope, key: str, signature: bytes) -> bytes:
    return Envelope(opened.type, opened.payload, ((key, signature),)).encode()


# Manifests, rightly signed

NAMES = [
    "",
    " a",
    "a ",
    "<script>",
    "a/b",
    "a\x00b",
    "a\u202eb",
    "a\u200bb",
    "e\u0301",
    "a\nb",
    "{{a}}",
    "x" * 65,
]
WRONG_ANYWHERE = [None, True, 2**60, -1, 1.5, "\u202e", [[]], {"x": {}}]
WRONG = {
    "schema": [0, 2, "1", True, 1.0],
    "method": ["", "heavyweight", "Lightweight"],
    "author": ["a" * 64, BEN.public, ADA.public.upper(), ""],
    "task": NAMES,
    "classes": [
        [],
        ["oak"],
        ["oak", "oak", "elm"],
        ["oak", "ash", "elm", "fir"],
        [f"c{i}" for i in range(1001)],
    ],
    "backbone": [[], {}, {"name": "x", "fingerprint": "b" * 63}, {"name": "", "fingerprint": BACKBONE}],
    "counts": [[1], [1, 2, -3], [1, 2, 3.0], [1, 2, True], [1, 2, 2**54]],
    "metrics": [{"a": 1}, {"A": 1.0}, {f"x{i}": 1.0 for i in range(33)}, []],
    "costs": [{"": 1.0}, {"a": "1"}, {"a": None}],
    "settings": [{}, {"precision": "compact"}, {"precision": "x", "anchor": {}}, {"a": [[[[[[[[]]]]]]]]}],
    "recipe": ["x", "E" * 64, "e" * 65],
    "data": ["x", "../" * 21 + "a"],
    "seq": [0, -1, 1.0, True, 2**53 + 1],
    "replaces": [["x"], ["2" * 64, "1" * 64], ["1" * 64] * 2, [f"{i:064x}" for i in range(17)]],
    "files": [[], {}],
}
WRONG_FILE = {
    "role": ["", "tail", "../head", "Head", 1],
    "sha256": ["", "0" * 64, "x" * 64],
    "bytes": [0, -1, 2**40, 1.0, True, "9"],
    "tensors": [
        {},
        [],
        {"x": ["F32", [2**62, 0]]},
        {"x": ["F32", [2**24, 2**24]]},
        {"x": ["F64", [1]]},
        {f"t{i}": ["U8", [0]] for i in range(65)},
        {"../x": ["U8", [1]]},
        {"x": ["U8", [-1]]},
    ],
}


def manifest(rng: random.Random, start: Good) -> bytes:
    """A manifest that breaks a rule."""
    document = copy.deepcopy(start.document)
    choice = rng.randrange(8)
    if choice == 0:
        del document[rng.choice(sorted(document))]
    elif choice == 1:
        document[rng.choice(("x", "created", "__proto__", "schema2"))] = 1
    elif choice == 2:
        document["classes"][rng.randrange(3)] = rng.choice(NAMES)
    elif choice == 3:
        file = rng.choice(document["files"])
        field = rng.choice(sorted(WRONG_FILE))
        file[field] = rng.choice(WRONG_FILE[field])
    elif choice == 4:
        document["files"] = rng.choice(
            (document["files"][::-1], document["files"] * 2, document["files"][:1])
        )
    elif choice == 5:
        document[rng.choice([name for name in WRONG if name != "counts"])] = rng.choice(WRONG_ANYWHERE)
    elif choice == 6:
        return signed(_text(rng, strict_json.dumps(document)), start.blobs)
    else:
        field = rng.choice(sorted(WRONG))
        document[field] = rng.choice(WRONG[field])
    return signed(document, start.blobs)


def _text(rng: random.Random, payload: bytes) -> bytes:
    """The same JSON in another form, or no JSON."""
    return rng.choice(
        (
            payload + b" ",
            b" " + payload,
            payload.replace(b'"seq":1', b'"seq":1,"seq":1'),
            payload.replace(b'"seq":1', b'"seq": 1'),
            payload.replace(b'"seq":1', b'"seq":1.0'),
            payload.replace(b'"seq":1', b'"seq":1e0'),
            payload.replace(b'"seq":1', b'"seq":-NaN'),
            payload.replace(b"oak", b"\\u006fak"),
            payload.replace(b"oak", b"\\ud800"),
            payload.replace(b"oak", b"\xff"),
            payload[:-1],
            payload[::-1],
            b"[" * 30_000,
            b'"' + b"x" * 30_000,
            b"",
            rng.randbytes(rng.randrange(200)),
        )
    )


# Blobs, rightly signed


def _with_blob(start: Good, position: int, data: bytes, **declared: object) -> bytes:
    document, parts = copy.deepcopy(start.document), list(start.blobs)
    document["files"][position] |= {"sha256": hashlib.sha256(data).hexdigest(), **declared}
    parts[position] = data
    return signed(document, parts)


def blob(rng: random.Random, start: Good) -> bytes:
    """A blob in another form than the one, signed as it is."""
    position = rng.randrange(len(start.blobs))
    data = start.blobs[position]
    length = int.from_bytes(data[:8], "little")
    header, payload = data[8 : 8 + length], data[8 + length :]
    entries = json.loads(header)
    first = next(iter(entries))
    loose = json.dumps(entries).encode()
    begin, end = entries[first]["data_offsets"]
    other = rng.choice(
        (
            header.rstrip() + b" " * rng.randint(1, 64),
            b" " + header,
            loose,
            header.replace(b"{", b'{"__metadata__":{"a":"b"},', 1),
            header.replace(
                b"{", b'{"%s":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},' % first.encode(), 1
            ),
            header.replace(b'"dtype"', b'"x":1,"dtype"', 1),
            json.dumps(dict(reversed(entries.items())), separators=(",", ":")).encode() + b" ",
            header.replace(b"[%d,%d]" % (begin, end), b"[%d,%d]" % (begin + 1, end + 1), 1),
            header.replace(b"[%d,%d]" % (begin, end), b"[-1,%d]" % end, 1),
            header.replace(b'"dtype":"', b'"dtype":"B', 1),
            b'{"a":' * 10_000,
            rng.randbytes(length),
        )
    )
    changed = rng.choice(
        (
            len(other).to_bytes(8, "little") + other + payload,
            length.to_bytes(8, "little") + other[:length].ljust(length) + payload,
            rng.choice((0, 1, length - 8, length + 8, 2**63, 2**64 - 1)).to_bytes(8, "little") + data[8:],
            data + rng.randbytes(rng.randint(1, 9)),
            data[: rng.randrange(len(data))],
        )
    )
    if changed == data:
        return start.file + b"\0"
    declared = {"bytes": len(changed)} if rng.random() < 0.5 else {}
    return _with_blob(start, position, changed, **declared)


# Numbers, rightly signed and in the right form


def numbers(rng: random.Random, start: Good) -> bytes:
    """Tensors that no learner makes, with a manifest that tells the truth of them."""
    tensors = {role: dict(found) for role, found in start.tensors.items()}
    kind = start.document["settings"]["anchor"]["anchor"]
    rng.choice([_not_finite, _scale, _shape, _names, *_IMPOSSIBLE[kind]])(rng, tensors)
    document, parts = copy.deepcopy(start.document), []
    for file in document["files"]:
        parts.append(blobs.encode(tensors[file["role"]]))
        layout = blobs.layout(tensors[file["role"]])
        file |= {
            "sha256": hashlib.sha256(parts[-1]).hexdigest(),
            "bytes": len(parts[-1]),
            "tensors": {name: [dtype, list(shape)] for name, (dtype, shape) in layout.items()},
        }
    return signed(document, parts)


Tensors = dict[str, dict[str, torch.Tensor]]


def _not_finite(rng: random.Random, tensors: Tensors) -> None:
    places = [
        (role, name)
        for role, found in tensors.items()
        for name, value in found.items()
        if value.is_floating_point() and value.numel()
    ]
    role, name = rng.choice(places)
    value = tensors[role][name].clone()
    value.view(-1)[rng.randrange(value.numel())] = rng.choice((float("nan"), float("inf"), -float("inf")))
    tensors[role][name] = value


def _scale(rng: random.Random, tensors: Tensors) -> None:
    role = rng.choice(sorted(tensors))
    scales = [name for name in tensors[role] if name.endswith(".scale")]
    if not scales:  # at full precision there are none
        tensors[role]["bias.scale"] = torch.ones(1)
        return
    name = rng.choice(scales)
    choice = rng.randrange(4)
    if choice == 0:
        del tensors[role][name]
    elif choice == 1:
        tensors[role][name] = torch.full_like(tensors[role][name], -1.0)
    elif choice == 2:
        tensors[role][name] = torch.cat([tensors[role][name], torch.ones(1)])
    else:
        tensors["head"]["weight.scale"] = torch.full_like(tensors["head"]["weight.scale"], 3e38)


def _shape(rng: random.Random, tensors: Tensors) -> None:
    role, name = rng.choice((("head", "weight"), ("head", "bias"), ("biases", "biases"), ("anchor", "means")))
    value = tensors[role][name]
    wrong = [value[None], value.reshape(-1)[None, None]]
    if role == "head":
        wrong += [value[:-1], torch.cat([value, value]), value[:0]]
    if name == "means":
        wrong += [value[:, :-1], value[:0], value.repeat(30, 1)]
    tensors[role][name] = rng.choice(wrong)


def _names(rng: random.Random, tensors: Tensors) -> None:
    role = rng.choice(sorted(tensors))
    if rng.random() < 0.5:
        tensors[role][rng.choice(("extra", "weight2", "zz"))] = torch.zeros(rng.randrange(3))
    else:
        name = rng.choice([name for name in tensors[role] if not name.endswith(".scale")])
        tensors[role]["renamed"] = tensors[role].pop(name)


def _anchor(name: str, value: Callable[[random.Random, torch.Tensor], torch.Tensor]):
    """Put an impossible tensor, in its final form, in place of a stored one of the anchor."""

    def change(rng: random.Random, tensors: Tensors) -> None:
        made = value(rng, tensors["anchor"][name])
        tensors["anchor"][name] = made
        if made.is_floating_point():
            tensors["anchor"].pop(f"{name}.scale", None)

    return change


_IMPOSSIBLE = {
    "gmm": [
        _anchor("means", lambda rng, x: torch.full(x.shape, rng.uniform(0.4, 1e9))),
        _anchor("means", lambda rng, x: torch.zeros(rng.randint(26, 60), x.shape[1])),
        _anchor("variances", lambda rng, x: torch.full(x.shape, rng.choice((0.0, -1e-9, -1.0, 1e7)))),
        _anchor("variances", lambda _, x: torch.ones(2, x.shape[1])),
        _anchor("weights", lambda rng, x: torch.full(x.shape, rng.choice((0.0, 1.0, -1.0, 1e5)))),
        _anchor("samples", lambda rng, _: torch.tensor(rng.choice((0, -1, -(2**63))))),
        _anchor("samples", lambda _, x: x[None]),
        _anchor("probes", lambda rng, x: torch.ones(rng.randint(1, 64), x.shape[1])),
        _anchor("probes", lambda rng, x: torch.zeros(rng.randint(65, 99), x.shape[1])),
        _anchor("probes", lambda _, x: torch.zeros(3, x.shape[1] + 1)),
    ],
    "mahalanobis": [
        _anchor("means", lambda rng, x: torch.full(x.shape, rng.uniform(0.4, 1e9))),
        _anchor("means", lambda _, x: torch.zeros(4, x.shape[1])),
        _anchor("counts", lambda rng, x: torch.full_like(x, rng.choice((0, -1, -(2**63))))),
        _anchor("counts", lambda _, x: x[:-1]),
        _anchor("labels", lambda rng, x: torch.full_like(x, rng.choice((3, -1, 2**62)))),
        _anchor("labels", lambda _, x: x[:-1]),
        _anchor("examples", lambda rng, x: torch.zeros(rng.randint(25, 60), x.shape[1])),
        _anchor("examples", lambda _, x: torch.ones(x.shape)),
        _anchor("probes", lambda rng, x: torch.zeros(rng.randint(65, 99), x.shape[1])),
    ],
    "mahalanobis-images": [
        _anchor("images", lambda _, x: x[:, :2, :, 0]),
        _anchor("images", lambda _, x: x[:-1]),
        _anchor("images", lambda _, x: x.repeat(9, 1, 1, 1)),
        _anchor("labels", lambda rng, x: torch.full_like(x, rng.choice((3, -1)))),
        _anchor("means", lambda _, x: torch.ones(x.shape)),
    ],
}

MAKERS: dict[str, Maker] = {
    "bytes": lambda rng, start: any_bytes(rng, start.file, good("mahalanobis", seed=1).file),
    "frame": frame,
    "envelope": envelope,
    "signed manifest": manifest,
    "signed blob": blob,
    "signed numbers": numbers,
}
