"""Masks and coefficients as modules: they travel bit for bit, and what is impossible is refused with a code."""

import tracemalloc
import zlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.learner_contract import assert_same_state, toy_task
from tests.masks.samples import FAST, VARIANTS, author, learned, make
from tests.sharing.samples import ADA, BEN, LISTED, ROOT, a_module, sealed

from stolon import learners
from stolon.errors import BackboneMismatchError, DataError, ModuleRefusedError, TaskError, TaskUnknownError
from stolon.masks.impressions import Impressions
from stolon.masks.memory import Kept, StoredMask
from stolon.masks.storage import entropy_bits, pack
from stolon.sharing import Bank, acceptance, blobs, manifest, module, supermask_files, supermasks
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import open_envelope
from stolon.sharing.limits import MAX_TENSORS

X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def travelled(made, key=ADA):
    """What comes out of the file."""
    return module.unpack(module.pack(made, key), LISTED)


def assert_same(one, other):
    mine, theirs = one.tensors(), other.tensors()
    assert type(one) is type(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert value.dtype == theirs[name].dtype
        assert torch.equal(value, theirs[name])


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_learner_keeps_travels_bit_for_bit(variant):
    for task in author(variant).tasks:
        found = travelled(supermasks.module_of(author(variant), task))
        assert_same(supermasks.knowledge(found), author(variant).knowledge(task))


def test_a_module_says_where_it_comes_from():
    facts = {"test_accuracy": 0.5, "seconds": 3, "note": "x", "bad": float("nan")}
    learner = author("supsup")
    made = supermasks.module_of(learner, "b", facts=facts, seq=3, replaces=("1" * 64,))
    assert (made.method, made.task, made.classes) == ("supsup", "b", learner.classes("b"))
    assert (made.backbone_name, made.backbone) == ("mlp-16", learner.frozen.fingerprint())
    assert (made.metrics, made.costs) == ({"test_accuracy": 0.5}, {"seconds": 3.0})
    assert made.data == learner.recipe("b")["data"]
    assert made.recipe == supermasks.module_of(learned("supsup"), "b").recipe
    assert made.recipe != supermasks.module_of(learner, "c").recipe
    assert (made.seq, made.replaces) == (3, ("1" * 64,))
    assert made.settings == {
        "network": {"input": [1, 8, 8], "layers": [[16, 64], [8, 16]], "outputs": 8},
        "statistics": [],
        "values": "binary",
        "place": -1,
    }


def test_coefficients_name_the_basis_that_they_are_for():
    learner = author("random")
    made = supermasks.module_of(learner, "a")
    assert made.method == "impressions"
    assert made.settings["basis"] == learner.basis_fingerprint
    assert made.settings["masks"] == 5
    assert made.settings["values"] == ""


def test_a_task_that_the_basis_was_made_of_is_a_mask_with_its_place():
    learner = author("first-tasks")
    made = [supermasks.module_of(learner, task) for task in learner.tasks]
    assert [each.method for each in made] == ["supsup", "supsup", "impressions"]
    assert [each.settings["place"] for each in made[:2]] == [0, 1]


def test_the_same_learning_gives_the_same_file():
    for task in ("a", "c"):
        first, again = (
            module.pack(supermasks.module_of(learner, task), ADA)
            for learner in (author("first-tasks"), learned("first-tasks"))
        )
        assert first == again


def test_what_was_not_learned_has_no_module():
    with pytest.raises(TaskUnknownError):
        supermasks.module_of(author("supsup"), "z")
    learner = make("supsup")
    next(learner.learn(toy_task("a", 1)))
    with pytest.raises(TaskUnknownError, match="finish it first"):
        supermasks.module_of(learner, "a")


def test_statistics_of_other_types_are_not_shared():
    learner = learned("normed")
    kept = learner._kept["a"]
    for name, value in (("0.1.running_mean", torch.zeros(4).double()), ("größe", torch.zeros(4))):
        learner._kept["a"] = replace(kept, statistics={**kept.statistics, name: value})
        with pytest.raises(TaskError, match="cannot be shared"):
            supermasks.module_of(learner, "a")


def test_coefficients_that_nobody_would_take_do_not_leave():
    learner = learned("random")
    learner._kept["a"] = replace(learner._kept["a"], alpha=learner._kept["a"].alpha * 6e4)
    with pytest.raises(ModuleRefusedError, match=r"bad-knowledge|not-finite"):
        module.pack(supermasks.module_of(learner, "a"), ADA)


def test_a_module_of_another_method_is_no_mask():
    for ask in (supermasks.knowledge, lambda found: supermasks.adopt(make("supsup"), found)):
        with pytest.raises(DataError, match="expected a module of a mask"):
            ask(a_module())


# In a bank, from one learner to another


@pytest.fixture
def bank(tmp_path):
    with Bank(tmp_path / "bank") as opened:
        opened.set_trust(sealed(LISTED, ROOT))
        yield opened


def shared(bank, learner, key=ADA):
    """All of a learner's tasks, through a bank."""
    ids = [
        bank.add(module.pack(supermasks.module_of(learner, task), key), learner.frozen.fingerprint())
        for task in learner.tasks
    ]
    return [bank.module(id_) for id_ in ids]


@pytest.mark.parametrize("variant", VARIANTS)
def test_from_a_bank_a_learner_takes_on_everything(variant, bank, tmp_path):
    mine, theirs = author(variant), make(variant)
    modules = shared(bank, mine)
    if isinstance(mine, Impressions) and mine.config.basis != "random":
        supermasks.take_basis(theirs, [each for each in reversed(modules) if each.method == "supsup"])
    for each in modules:
        supermasks.adopt(theirs, each)
    theirs.save(tmp_path / "learner")
    for found in (theirs, make(variant).load(tmp_path / "learner")):
        for task in mine.tasks:
            assert torch.equal(found.logits(X, task), mine.logits(X, task))
        assert found.infer(X) == mine.infer(X)
        assert found.recipe("b")["adopted"] == {
            "module": modules[1].id,
            "author": ADA.public,
            "task": "b",
            "recipe": modules[1].recipe,
            "data": modules[1].data,
        }
    again = supermasks.module_of(theirs, "b")
    assert again.settings == modules[1].settings
    assert again.data == modules[1].data
    assert again.tensors.keys() == modules[1].tensors.keys()
    for role, tensors in again.tensors.items():
        assert all(torch.equal(value, modules[1].tensors[role][name]) for name, value in tensors.items())


def test_a_bank_holds_all_methods_side_by_side(bank):
    shared(bank, author("first-tasks"))
    bank.add(module.pack(a_module(), BEN))
    assert sorted(one.manifest.method for one in bank.modules()) == [
        "impressions", "lightweight", "supsup", "supsup",
    ]  # fmt: skip


def test_a_module_of_another_network_is_not_let_in_where_one_is_asked_for(bank):
    data = module.pack(supermasks.module_of(author("supsup"), "a"), ADA)
    with pytest.raises(ModuleRefusedError, match="other-backbone"):
        bank.add(data, author("normed").frozen.fingerprint())
    assert bank.add(data, author("supsup").frozen.fingerprint())


def test_a_task_can_be_taken_on_under_another_name():
    theirs, found = make("supsup"), travelled(supermasks.module_of(author("supsup"), "a"))
    supermasks.adopt(theirs, found, name="ada's a")
    with pytest.raises(TaskError, match="known already"):
        supermasks.adopt(theirs, found, name="ada's a")
    supermasks.adopt(theirs, found)
    assert theirs.tasks == ("ada's a", "a")


def test_coefficients_are_of_no_use_with_another_basis_or_network():
    found = travelled(supermasks.module_of(author("first-tasks"), "c"))
    for settings_, error in (({}, DataError), ({"backbone_seed": 1}, BackboneMismatchError)):
        learner = make("first-tasks", **settings_)
        with pytest.raises(error):
            supermasks.adopt(learner, found)
        assert_same_state(learner, make("first-tasks", **settings_))


def test_other_learners_have_no_masks_to_share():
    with pytest.raises(TaskError, match="expected a supsup or an impressions learner, found Finetune"):
        supermasks.module_of(learners.make("finetune", net="mlp-8"), "a")


def test_a_basis_is_taken_whole_of_one_author_or_not_at_all():
    mine = author("first-tasks")
    first, second, third = (travelled(supermasks.module_of(mine, task)) for task in mine.tasks)
    bens = travelled(supermasks.module_of(mine, "b"), BEN)
    loose = travelled(supermasks.module_of(author("supsup"), "a"))
    for modules, message in (
        ([], "each once, found none"),
        ([second], "found masks 2"),
        ([first, first], "found masks 1, 1"),
        ([first, second, third], "found masks 1, 2 and 1 of no basis"),
        ([loose], "found 1 of no basis"),
        ([first, bens], "one author"),
        ([first, replace(second, backbone="0" * 64)], "one network"),
        ([first], "impressions=1"),
    ):
        learner = make("first-tasks")
        with pytest.raises(DataError, match=message):
            supermasks.take_basis(learner, modules)
        assert_same_state(learner, make("first-tasks"))


@pytest.mark.parametrize("basis", ["homogeneous", "mixed"])
def test_all_masks_of_a_task_travel_and_answer_it(basis, bank):
    mine = make("first-tasks", basis=basis, impressions=3, masks_per_task=2)
    for task in (toy_task(name, i) for i, name in enumerate("abc")):
        list(mine.learn(task))
    made = [bank.add(module.pack(each, ADA)) for each in supermasks.basis_modules(mine)]
    modules = [bank.module(id_) for id_ in made]
    expected = {"homogeneous": ["a", "a mask 2", "a mask 3"], "mixed": ["a", "a mask 2", "b"]}[basis]
    assert [each.task for each in modules] == expected
    assert [each.settings["place"] for each in modules] == [0, 1, 2]
    assert len({each.recipe for each in modules}) == 3
    for each, mask in zip(modules, mine.basis, strict=True):
        assert_same(supermasks.knowledge(each), mask)
    theirs = make("first-tasks", basis=basis, impressions=3, masks_per_task=2)
    supermasks.take_basis(theirs, modules[::-1])
    assert theirs.basis_fingerprint == mine.basis_fingerprint
    for task in mine.tasks:
        supermasks.adopt(theirs, travelled(supermasks.module_of(mine, task)))
        assert torch.equal(theirs.logits(X, task), mine.logits(X, task))
    second = learners.make("supsup", net="mlp-16-12", **FAST)  # a further mask is one that answers the task
    supermasks.adopt(second, modules[1])
    assert second.classes("a mask 2") == mine.classes("a")
    assert list(theirs.masks_of("a")) == [0]
    with pytest.raises(TaskError, match=r"left the masks \[.*another learner's; take their author's"):
        supermasks.basis_modules(theirs)


def test_modules_of_a_heterogeneous_basis_are_those_of_its_tasks():
    mine = author("first-tasks")
    own = [supermasks.module_of(mine, task) for task in mine.tasks[:2]]
    assert [module.pack(each, ADA) for each in supermasks.basis_modules(mine)] == [
        module.pack(each, ADA) for each in own
    ]
    assert (list(mine.masks_of("a")), list(mine.masks_of("c"))) == ([0], [])


def test_a_basis_that_cannot_be_shared_is_told():
    with pytest.raises(TaskError, match="random one: equal settings"):
        supermasks.basis_modules(author("random"))
    begun = make("first-tasks")
    list(begun.learn(toy_task("a", 1)))
    with pytest.raises(TaskError, match=r"whole basis of 2 masks, found 1"):
        supermasks.basis_modules(begun)
    mine = learned("first-tasks")
    mine.forget("b")
    with pytest.raises(TaskError, match=r"left the masks \[1\], found them forgotten"):
        supermasks.basis_modules(mine)
    with pytest.raises(TaskUnknownError):
        mine.masks_of("b")


# Sizes


def lenet(method, **about):
    """One that has seen a task of a few images, as large as MNIST's."""
    learner = learners.make(method, net="lenet-300-100", epochs=1, outputs=10, density=0.1, **about)
    list(learner.learn(toy_task("digits", 1, shape=(1, 28, 28))))
    return learner


def test_coefficients_of_a_hundred_masks_take_less_than_three_kilobytes():
    learner = lenet("impressions", basis="random", impressions=100, alpha_epochs=1)
    made = supermasks.module_of(learner, "digits")
    assert made.tensors["coefficients"]["alpha"].shape == (3, 100)
    assert len(module.pack(made, ADA)) <= 2_700


def test_a_mask_takes_little_more_than_its_entropy():
    giver = lenet("impressions", basis="random", impressions=1, alpha_epochs=1)
    learner = learners.make("supsup", net="lenet-300-100", outputs=10)
    learner.adopt("digits", ("0", "1"), giver.basis[0], giver.frozen.identity())
    data = module.pack(supermasks.module_of(learner, "digits"), ADA)
    bound = 266_200 * entropy_bits(0.1) / 8
    assert bound < len(data) <= bound * 1.011 + 1_500


# What is refused by the manifest alone


def manifest_of(made):
    envelope, _ = module.split(module.pack(made, ADA))
    return manifest.parse(open_envelope(envelope).payload)


GOOD = {
    variant: (made := supermasks.module_of(author(variant), task), manifest_of(made))
    for variant, task in {**dict.fromkeys(VARIANTS, "a"), "first-tasks": "c", "signed-hybrid": "c"}.items()
}


def retold(variant, **changed):
    """The manifest with other settings; of the network, by its keys."""
    _, found = GOOD[variant]
    told = dict(found.settings)
    network = {key: changed.pop(key) for key in ("input", "layers", "outputs") if key in changed}
    told["network"] = {**told["network"], **network}
    return replace(found, settings={**told, **changed})


def with_layout(variant, role, **tensors):
    """The manifest with some tensors declared otherwise; None leaves one out."""
    _, found = GOOD[variant]
    files = []
    for file in found.files:
        layout = {**file.tensors, **tensors} if file.role == role else dict(file.tensors)
        files.append(replace(file, tensors={name: kind for name, kind in layout.items() if kind is not None}))
    return replace(found, files=tuple(files))


@pytest.mark.parametrize("variant", VARIANTS)
def test_good_modules_pass(variant):
    made, found = GOOD[variant]
    assert supermasks.check_manifest(found) is None
    assert supermasks.check(found, made.tensors) is None


STATISTIC = ["0.1.running_mean", "F32", [4]]
UNSUPPORTED = [
    ("supsup", {"place": -2}),
    ("supsup", {"place": 4096}),
    ("supsup", {"place": True}),
    ("supsup", {"place": None}),
    ("supsup", {"values": ""}),
    ("supsup", {"values": "complex"}),
    ("supsup", {"values": 1}),
    ("supsup", {"values": ["binary"]}),
    ("supsup", {"more": 1}),
    ("supsup", {"basis": "0" * 64}),
    ("supsup", {"statistics": {}}),
    ("supsup", {"statistics": [["x", "F32"]]}),
    ("supsup", {"statistics": [["x", "F16", [1]]]}),
    ("supsup", {"statistics": [["", "F32", [1]]]}),
    ("supsup", {"statistics": [["a/b", "F32", [1]]]}),
    ("supsup", {"statistics": [["x" * 129, "F32", [1]]]}),
    ("supsup", {"statistics": [[1, "F32", [1]]]}),
    ("supsup", {"statistics": [["x", "F32", [0]]]}),
    ("supsup", {"statistics": [["x", "F32", [1] * 5]]}),
    ("supsup", {"statistics": [["y", "F32", [1]], ["x", "F32", [1]]]}),
    ("supsup", {"statistics": [STATISTIC, STATISTIC]}),
    ("supsup", {"statistics": [[f"n{i:04}", "F32", [1]] for i in range(1025)]}),
    ("supsup", {"input": []}),
    ("supsup", {"input": [1] * 5}),
    ("supsup", {"input": [0]}),
    ("supsup", {"input": [2.0]}),
    ("supsup", {"input": [True]}),
    ("supsup", {"input": "64"}),
    ("supsup", {"input": [2**25 + 1]}),
    ("supsup", {"layers": [[8, 16]]}),
    ("supsup", {"layers": [[8, 16]] * 257}),
    ("supsup", {"layers": [[16], [8, 16]]}),
    ("supsup", {"layers": [[16, 64, 1, 1, 1, 1], [8, 16]]}),
    ("supsup", {"layers": [[0, 64], [8, 16]]}),
    ("supsup", {"outputs": 0}),
    ("supsup", {"outputs": 2**14 + 1}),
    ("supsup", {"outputs": None}),
    ("random", {"masks": 0}),
    ("random", {"masks": 4097}),
    ("random", {"basis": ""}),
    ("random", {"basis": "0" * 63}),
    ("random", {"basis": "G" * 64}),
    ("random", {"basis": 5}),
    ("random", {"place": 0}),
    ("random", {"values": "none"}),
]


@pytest.mark.parametrize(("variant", "changed"), UNSUPPORTED)
def test_settings_of_another_version_are_unsupported(variant, changed):
    assert supermasks.check_manifest(retold(variant, **changed)).code == Code.UNSUPPORTED


@pytest.mark.parametrize("told", [{}, {"network": 5}, {"network": {"input": [1]}}])
def test_settings_that_are_none_are_unsupported(told):
    _, found = GOOD["supsup"]
    assert supermasks.check_manifest(replace(found, settings=told)).code == Code.UNSUPPORTED
    other = replace(found, settings=GOOD["random"][1].settings)
    assert supermasks.check_manifest(other).code == Code.UNSUPPORTED


@pytest.mark.parametrize(
    ("at", "above"),
    [
        ({"layers": [[2**21 - 1, 16], [8, 2]]}, {"layers": [[2**21 - 1, 16], [8, 2], [8, 1]]}),
        ({"input": [2**19]}, {"input": [2, 2**18 + 1]}),
        ({"statistics": [["x", "F32", [2**20]]]}, {"statistics": [["x", "F32", [2**20]], ["y", "I64", []]]}),
    ],
)
def test_networks_above_a_limit_are_too_large_at_it_not(at, above):
    refused = supermasks.check_manifest(retold("supsup", **at))
    assert refused is None or refused.code == Code.BAD_KNOWLEDGE  # its files are not so large
    assert supermasks.check_manifest(retold("supsup", **above)).code == Code.TOO_LARGE


@pytest.mark.parametrize(
    ("variant", "changed"),
    [
        ("supsup", {"outputs": 9}),
        ("supsup", {"outputs": 7}),
        ("supsup", {"layers": [[16, 64], [8, 16], [8, 16]]}),
        ("supsup", {"layers": [[8, 64], [8, 16]]}),
        ("supsup", {"values": "real"}),
        ("supsup", {"statistics": [STATISTIC]}),
        ("normed", {"statistics": []}),
        ("normed", {"statistics": [STATISTIC]}),
        ("random", {"masks": 4}),
        ("random", {"layers": [[16, 64], [8, 16], [8, 16]]}),
        ("random", {"values": "binary"}),
        ("hybrid", {"values": ""}),
    ],
)
def test_files_that_are_not_what_the_settings_tell_are_refused(variant, changed):
    found = retold(variant, **changed)
    assert supermasks.check_manifest(found).code == Code.BAD_KNOWLEDGE


@pytest.mark.parametrize(
    ("variant", "role", "tensors"),
    [
        ("supsup", "mask", {"mask.0": ("U8", (146,))}),
        ("supsup", "mask", {"mask.0": ("U8", (0,))}),
        ("supsup", "mask", {"mask.0": ("U8", (8, 8))}),
        ("supsup", "mask", {"mask.0": ("I8", (100,))}),
        ("supsup", "mask", {"mask.0": None}),
        ("supsup", "mask", {"mask.1": ("U8", (10,))}),
        ("supsup", "mask", {"scales": ("F32", (3,))}),
        ("supsup", "mask", {"scales": ("F16", (2,))}),
        ("supsup", "mask", {"scales": None}),
        ("supsup", "mask", {"more": ("F32", (2,))}),
        ("signed", "mask", {"mask.0": ("U8", (290,))}),
        ("real", "mask", {"mask": ("F16", (1151,))}),
        ("real", "mask", {"mask": ("F32", (1152,))}),
        ("normed", "statistics", {"floats": ("F32", (7,))}),
        ("normed", "statistics", {"integers": None}),
        ("normed", "statistics", {"integers": ("F32", (1,))}),
        ("normed", "statistics", {"more": ("F32", (1,))}),
        ("random", "coefficients", {"alpha": ("F16", (5, 2))}),
        ("random", "coefficients", {"alpha": ("F32", (2, 5))}),
        ("random", "coefficients", {"alpha": None, "beta": ("F16", (2, 5))}),
        ("random", "coefficients", {"more": ("F16", (2, 5))}),
        ("hybrid", "last", {"scales": ("F32", (2,))}),
        ("hybrid", "last", {"mask.0": ("U8", (18,))}),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_the_manifest_alone(variant, role, tensors):
    assert supermasks.check_manifest(with_layout(variant, role, **tensors)).code == Code.BAD_KNOWLEDGE


def test_shapes_are_accepted_at_their_limits():
    assert supermasks.check_manifest(with_layout("supsup", "mask", **{"mask.0": ("U8", (145,))})) is None
    assert supermasks.check_manifest(with_layout("supsup", "mask", **{"mask.0": ("U8", (1,))})) is None
    assert supermasks.check_manifest(with_layout("signed", "mask", **{"mask.0": ("U8", (289,))})) is None
    assert supermasks.check_manifest(retold("supsup", place=4095)) is None


@pytest.mark.parametrize("roles", [(), ("last",), ("coefficients", "mask"), ("mask", "statistics")])
def test_files_must_be_those_of_the_method(roles):
    for variant in ("supsup", "random"):
        _, found = GOOD[variant]
        files = tuple(replace(found.files[0], role=role) for role in roles)
        assert supermasks.check_manifest(replace(found, files=files)).code == Code.BAD_KNOWLEDGE


def test_a_task_has_at_most_as_many_classes_as_there_are_outputs():
    _, found = GOOD["random"]
    for classes, refused in ((8, None), (9, Code.BAD_KNOWLEDGE)):
        names = tuple(f"class {i}" for i in range(classes))
        answer = supermasks.check_manifest(replace(found, classes=names))
        assert (answer and answer.code) == refused


# What is refused by its numbers


def checked(variant, role, **tensors):
    """The answer for a module with other numbers in it."""
    made, found = GOOD[variant]
    return supermasks.check(found, {**made.tensors, role: {**made.tensors[role], **tensors}})


def bits(values):
    return torch.tensor([values], dtype=torch.uint8).flatten()


def deflated(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return bits([2, *packer.compress(data), *packer.flush()])


NOT_MASKS = {
    "another form's name": bits([6, *[0] * 144]),
    "too short": bits([0, *[0] * 143]),
    "damaged": bits([2, 255, 255, 255]),
    "nothing": bits([2]),
    "cut off": deflated(b"\0" * 100)[:-2],
    "unfinished": deflated(b"\xff"),
    "too many": deflated(b"\0" * 1153),
    "too far": deflated(b"\xff" * 5),
    "a signed one": bits([1, *[0] * 144]),
    "more behind it": torch.cat([deflated(b"\0"), bits([0])]),
}


@pytest.mark.parametrize("what", NOT_MASKS)
def test_bytes_that_are_no_mask_are_refused(what):
    assert checked("supsup", "mask", **{"mask.0": NOT_MASKS[what]}).code == Code.BAD_KNOWLEDGE


def test_ones_behind_the_last_weight_are_refused():
    made, found = GOOD["normed"]
    shapes = author("normed").frozen.shapes
    entries = sum(shape.numel() for shape in shapes)
    assert entries % 8
    packed = pack(torch.ones(entries, dtype=torch.bool))
    good = torch.cat([bits([0]), packed])
    bad = good.clone()
    bad[-1] |= 1
    for stored, refused in ((good, None), (bad, Code.BAD_KNOWLEDGE)):
        answer = supermasks.check(found, {**made.tensors, "mask": {**made.tensors["mask"], "mask.0": stored}})
        assert (answer and answer.code) == refused


@pytest.mark.parametrize(
    ("variant", "role", "tensors"),
    [
        ("supsup", "mask", {"scales": torch.tensor([1.0, 0.0])}),
        ("supsup", "mask", {"scales": torch.tensor([1.0, -1.0])}),
        ("supsup", "mask", {"scales": torch.tensor([1.0, 1.1e4])}),
        ("supsup", "mask", {"scales": torch.tensor([1.0, torch.nan])}),
        ("supsup", "mask", {"scales": torch.ones(2).double()}),
        ("supsup", "mask", {"extra": torch.zeros(1)}),
        ("signed", "mask", {"mask.0": bits([0, *[0] * 144])}),
        ("real", "mask", {"mask": torch.full((1152,), 1.1e4).half()}),
        ("real", "mask", {"mask": torch.full((1152,), torch.inf).half()}),
        ("normed", "statistics", {"floats": torch.full((8,), 1.1e6)}),
        ("normed", "statistics", {"floats": -torch.ones(8)}),
        ("normed", "statistics", {"floats": torch.full((8,), torch.nan)}),
        ("normed", "statistics", {"integers": torch.tensor([2**53 + 1])}),
        ("random", "coefficients", {"alpha": torch.full((2, 5), -1.1e4).half()}),
        ("random", "coefficients", {"alpha": torch.full((2, 5), torch.nan).half()}),
        ("random", "coefficients", {"alpha": torch.zeros(5, 2).half()}),
        ("hybrid", "last", {"scales": torch.zeros(1)}),
        ("hybrid", "last", {"mask.0": bits([9])}),
    ],
)
def test_numbers_that_are_never_learned_are_refused(variant, role, tensors):
    assert checked(variant, role, **tensors).code == Code.BAD_KNOWLEDGE


def test_numbers_are_accepted_at_their_limits():
    assert checked("supsup", "mask", scales=torch.tensor([1e4, 1e-3])) is None
    assert checked("random", "coefficients", alpha=torch.full((2, 5), -1e4).half()) is None
    assert checked("normed", "statistics", floats=torch.cat([-torch.full((4,), 1e6), torch.zeros(4)])) is None


# Nothing raises


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
EXTENT = st.sampled_from([0, 1, 2, 5, 8, 16, 64, 100, 145, 2**24, 2**53])
KINDS = st.sampled_from([*blobs.DTYPES, "F64"])


@given(st.data())
@settings(max_examples=200)
def test_whatever_a_manifest_says_nothing_raises(data):
    variant = data.draw(st.sampled_from(sorted(GOOD)))
    made, found = GOOD[variant]
    told = {**found.settings, "network": dict(found.settings["network"])}
    for _ in range(data.draw(st.integers(0, 2))):
        where = data.draw(
            st.sampled_from([told, told["network"]]) if isinstance(told["network"], dict) else st.just(told)
        )
        key = data.draw(st.sampled_from([*where, "more"]))
        where[key] = data.draw(
            JSON | st.lists(EXTENT, max_size=4) | st.lists(st.lists(EXTENT, max_size=3), max_size=3)
        )
    files = list(found.files)
    if data.draw(st.booleans()):
        i = data.draw(st.integers(0, len(files) - 1))
        layout = dict(files[i].tensors)
        name = data.draw(st.sampled_from([*layout, "mask.1", "more"]))
        layout[name] = data.draw(KINDS), tuple(data.draw(st.lists(EXTENT, max_size=4)))
        role = data.draw(st.sampled_from([files[i].role, "mask", "last", "statistics", "head"]))
        files[i] = replace(files[i], tensors=layout, role=role)
    method = data.draw(st.sampled_from(["supsup", "impressions"]))
    mutated = replace(found, settings=told, files=tuple(files), method=method)
    answer = supermasks.check_manifest(mutated)
    assert answer is None or isinstance(answer, Refused)
    if answer is None:
        refused = supermasks.check(mutated, made.tensors)
        assert refused is None or refused.code == Code.BAD_KNOWLEDGE


DTYPES = st.sampled_from(
    [torch.uint8, torch.int8, torch.int64, torch.float16, torch.float32, torch.float64, torch.bool]
)


@given(st.data())
@settings(max_examples=300)
def test_whatever_the_numbers_are_nothing_raises(data):
    variant = data.draw(st.sampled_from(sorted(GOOD)))
    made, found = GOOD[variant]
    role = data.draw(st.sampled_from(sorted(made.tensors)))
    tensors = dict(made.tensors[role])
    name = data.draw(st.sampled_from(sorted(tensors)))
    value = tensors[name]
    match data.draw(st.sampled_from(["bytes", "shape", "type", "length", "gone", "renamed"])):
        case "bytes":
            raw = bytearray(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            for _ in range(data.draw(st.integers(1, 4))):
                raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
            value = torch.frombuffer(raw, dtype=value.dtype).reshape(value.shape)
        case "shape":
            value = value.reshape(data.draw(st.sampled_from([(-1,), (1, -1), (-1, 1), (1, 1, -1)])))
        case "type":
            value = value.to(data.draw(DTYPES))
        case "length":
            flat = value.flatten()
            value = torch.cat([flat, flat])[: data.draw(st.integers(0, 2 * len(flat)))]
        case "gone":
            del tensors[name]
        case "renamed":
            tensors["more"] = tensors.pop(name)
    if name in tensors:
        tensors[name] = value
    files = {**made.tensors, role: tensors}
    answer = supermasks.check(found, files)
    assert answer is None or answer.code == Code.BAD_KNOWLEDGE
    if answer is None:
        own = supermasks.knowledge(replace(made, tensors=files))
        assert isinstance(own, StoredMask | Kept)


def test_a_part_that_unfolds_takes_bounded_memory():
    """A few hundred bytes that say a million places, all of them as far as the part goes."""
    about = supermask_files.Told((1,), ((2**20 - 1, 1), (1, 1)), 1, (), "binary")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    hostile = bits([2, *packer.compress(b"\0" * 2**20), *packer.flush()])
    assert len(hostile) < 2_000
    tracemalloc.start()
    own = supermask_files.read(about, {"mask": {"mask.0": hostile, "scales": torch.ones(2)}})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(bool(layer.all()) for layer in own.masks([torch.Size(shape) for shape in about.layers]))
    assert peak < 40 * 2**20


def test_large_networks_are_stored_in_parts(monkeypatch):
    monkeypatch.setattr(supermask_files, "PART", 100)
    for variant in ("supsup", "signed", "hybrid"):
        made = supermasks.module_of(author(variant), "a")
        assert_same(supermasks.knowledge(travelled(made)), author(variant).knowledge("a"))
    tensors = supermasks.module_of(author("supsup"), "a").tensors["mask"]
    assert sorted(tensors) == sorted(["scales", *(f"mask.{i}" for i in range(12))])


def test_the_largest_network_has_not_too_many_parts():
    assert supermask_files.MAX_WEIGHTS / supermask_files.PART + 1 <= MAX_TENSORS


def test_acceptance_knows_both_methods():
    assert acceptance.METHODS["supsup"] is acceptance.METHODS["impressions"] is supermasks
