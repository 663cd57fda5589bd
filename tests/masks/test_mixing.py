"""Sums of masks in every form against the formula (naive twin below), in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stolon.errors import DataError, SettingError
from stolon.masks.mixing import FORMS, LayeredMasks, Masks
from stolon.masks.storage import pack

U = 2.0**-24  # half the spacing of float32 at 1


def random_masks(m, n, density, seed=0, *, signed=False):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(m, n, generator=generator) < density
    if not signed:
        return masks
    return masks.to(torch.int8) * (2 * torch.randint(0, 2, (m, n), generator=generator) - 1).to(torch.int8)


def normal(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def naive_mix(masks, alpha):
    """Eq. 1, mask by mask, and the sum of magnitudes that bounds the rounding."""
    total, magnitude = torch.zeros(masks.shape[1:]).double(), torch.zeros(masks.shape[1:]).double()
    for mask, a in zip(masks, alpha, strict=True):
        total += a.double() * mask.double()
        magnitude += (a.double() * mask.double()).abs()
    return total, magnitude


def naive_project(masks, g):
    total = torch.stack([(mask.double() * g.double()).sum() for mask in masks])
    return total, torch.stack([(mask.double() * g.double()).abs().sum() for mask in masks])


def assert_mix(found, masks, alpha):
    """As close as the module says."""
    exact, magnitude = naive_mix(masks, alpha)
    assert found.dtype == torch.float32
    assert found.shape == exact.shape
    assert ((found.double() - exact).abs() <= (len(masks) + 2) * U * magnitude).all()


def assert_project(found, masks, g):
    exact, magnitude = naive_project(masks, g)
    assert found.dtype == torch.float32
    assert found.shape == exact.shape
    assert ((found.double() - exact).abs() <= 2e-6 * magnitude).all()


@st.composite
def examples(draw):
    """Masks of all densities, signed and not, of several types; and a form."""
    m, n = draw(st.integers(1, 40)), draw(st.integers(1, 300))
    density = draw(st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.5, 0.9, 1.0]))
    masks = random_masks(m, n, density, draw(st.integers(0, 99)), signed=draw(st.booleans()))
    dtype = draw(st.sampled_from([masks.dtype, torch.int8, torch.int64, torch.float32, torch.bfloat16]))
    return masks.to(dtype), draw(st.sampled_from(FORMS))


@given(examples(), st.integers(0, 99))
def test_sums_and_gradients_are_those_of_the_formula(example, seed):
    masks, form = example
    held = Masks.of(masks, form)
    assert (held.count, held.entries) == masks.shape
    alpha, g = normal(len(masks), seed=seed).requires_grad_(), normal(masks.shape[1], seed=seed + 1)
    mixed = held.mix(alpha)
    assert_mix(mixed.detach(), masks, alpha.detach())
    mixed.backward(g)
    assert_project(alpha.grad, masks, g)
    assert torch.equal(held.project(g), alpha.grad)


@settings(max_examples=40)
@given(examples())
def test_one_coefficient_of_one_gives_exactly_that_mask(example):
    masks, form = example
    held = Masks.of(masks, form)
    for i, one_hot in enumerate(torch.eye(len(masks))):
        assert torch.equal(held.mix(one_hot), masks[i].float())
        assert torch.equal(held.row(i), masks[i].float())


@settings(max_examples=40)
@given(examples())
def test_packed_masks_come_back_in_any_form(example):
    masks, form = example
    held = Masks.of(masks, form)
    packed = held.to_packed()
    again = Masks.from_packed(packed, masks.shape[1], "bits")
    assert torch.equal(torch.stack([again.row(i) for i in range(len(masks))]), masks.float())
    is_signed = bool((masks < 0).any())
    assert packed.shape == (len(masks), -(-masks.shape[1] // 8) * (2 if is_signed else 1))
    stored = masks.to(torch.int8) if is_signed else masks != 0
    assert torch.equal(packed, torch.stack([pack(mask) for mask in stored]))  # a row is what storage writes


LAYERS = ([(4, 5), (3, 2, 2), (7,)], [(1,), (300,), (1,), (2, 2)])


@settings(max_examples=40)
@given(
    st.sampled_from(LAYERS),
    st.integers(1, 30),
    st.sampled_from(FORMS),
    st.booleans(),
    st.sampled_from([0.1, 0.5]),
)
def test_layers_have_coefficients_of_their_own(shapes, m, form, signed, density):
    sizes = [math.prod(shape) for shape in shapes]
    flat = random_masks(m, sum(sizes), density, signed=signed)
    layers = [part.reshape(m, *shape) for part, shape in zip(flat.split(sizes, 1), shapes, strict=True)]
    held = LayeredMasks.of(layers, form)
    assert (held.count, held.entries, held.shapes) == (m, sum(sizes), tuple(shapes))
    alpha = normal(m, len(shapes)).requires_grad_()
    mixed = held.mix(alpha)
    gradients = [normal(*shape, seed=k) for k, shape in enumerate(shapes)]
    torch.autograd.backward(mixed, gradients)
    assert torch.equal(held.project(gradients), alpha.grad)
    for k, layer in enumerate(layers):
        assert_mix(mixed[k].detach(), layer, alpha[:, k].detach())
        assert_project(alpha.grad[:, k], layer, gradients[k])
        assert torch.equal(held.row(m - 1)[k], layer[-1].float())
    again = LayeredMasks.from_packed(held.to_packed(), shapes, form)
    for one, other in zip(again.mix(alpha), mixed, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("density", [0.05, 0.5])
def test_250_masks_of_5000_entries(form, density):
    masks, alpha, g = random_masks(250, 5000, density), normal(250), normal(5000)
    held = Masks.of(masks, form)
    assert_mix(held.mix(alpha), masks, alpha)
    assert_project(held.project(g), masks, g)
    # far inside the bounds, which hold for the worst order of signs
    exact, _ = naive_mix(masks, alpha)
    torch.testing.assert_close(held.mix(alpha).double(), exact, rtol=1e-5, atol=1e-5)
    exact, _ = naive_project(masks, g)
    torch.testing.assert_close(held.project(g).double(), exact, rtol=1e-5, atol=1e-4)


def test_the_gradient_is_the_slope():
    """Central differences of a loss of the sum, as gradcheck takes them, but of float32."""
    masks = random_masks(9, 40, 0.4)
    held, alpha, target = Masks.of(masks), normal(9).requires_grad_(), normal(40, seed=3)

    def loss(a):
        return ((held.mix(a) - target).double() ** 2).sum()

    loss(alpha).backward()
    step = 1e-2  # the loss is quadratic: differences are exact but for rounding
    slopes = [(loss(alpha + step * e) - loss(alpha - step * e)).item() / (2 * step) for e in torch.eye(9)]
    torch.testing.assert_close(alpha.grad, torch.tensor(slopes), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_call_gives_the_same_bits(form):
    masks, alpha, g = random_masks(60, 3000, 0.2), normal(60), normal(3000)
    held, again = Masks.of(masks, form), Masks.of(masks, form)
    assert torch.equal(held.mix(alpha), held.mix(alpha))
    assert torch.equal(held.mix(alpha), again.mix(alpha))
    assert torch.equal(held.project(g), held.project(g))
    assert torch.equal(held.project(g), again.project(g))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("signed", [False, True])
def test_sums_for_many_tasks_are_those_for_each(form, signed):
    held, alphas = Masks.of(random_masks(30, 500, 0.3, signed=signed), form), normal(4, 30)
    found = held.mix_many(alphas.requires_grad_())
    assert not found.requires_grad
    torch.testing.assert_close(found, torch.stack([held.mix(a) for a in alphas]).detach(), rtol=0, atol=1e-5)
    assert held.mix_many(alphas[:0]).shape == (0, 500)


@pytest.mark.parametrize("density", [0.05, 0.1, 0.3, 0.5])
@pytest.mark.parametrize(("m", "n"), [(250, 5000), (75, 20_000)])
def test_bytes_held(density, m, n):
    masks = random_masks(m, n, density)
    fast, bits, plain = (Masks.of(masks, form).nbytes for form in FORMS)
    assert fast <= 0.5 * m * n  # 2 are allowed
    assert bits <= -(-m // 8) * n
    assert plain == 4 * m * n
    assert Masks.of(masks.half(), "plain").nbytes == 2 * m * n
    assert Masks.of(-masks.char(), "bits").nbytes <= 2 * -(-m // 8) * n + n


def test_the_small_form_is_also_the_fast_one_where_that_is_small():
    masks = random_masks(100, 100_000, 0.01)
    fast, bits = Masks.of(masks), Masks.of(masks, "bits")
    assert bits.nbytes == fast.nbytes < 100 * 100_000 / 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_masks_of_real_numbers_are_held_plainly(dtype):
    masks, alpha, g = normal(7, 9000).to(dtype), normal(7, seed=2), normal(9000, seed=3)
    held = Masks.of(masks, "plain")
    kept = masks.float() if dtype == torch.float64 else masks
    assert_mix(held.mix(alpha), kept, alpha)
    assert_project(held.project(g), kept, g)
    assert torch.equal(held.row(3), kept[3].float())
    with pytest.raises(SettingError, match="real numbers"):
        held.to_packed()
    for form in ("fast", "bits"):
        with pytest.raises(SettingError, match="choose form='plain'"):
            Masks.of(masks, form)


def test_held_masks_are_their_own():
    for form in FORMS:
        masks = torch.ones(2, 3)
        held = Masks.of(masks, form)
        masks.zero_()
        assert torch.equal(held.row(0), torch.ones(3))


def test_coefficients_of_other_types_get_gradients_of_their_type():
    held = Masks.of(random_masks(5, 50, 0.5))
    for dtype in (torch.float64, torch.bfloat16):
        alpha = normal(5).to(dtype).requires_grad_()
        mixed = held.mix(alpha)
        assert mixed.dtype == torch.float32
        mixed.sum().backward()
        assert alpha.grad.dtype == dtype


def test_without_gradients():
    held, alpha = Masks.of(random_masks(5, 50, 0.5)), normal(5).requires_grad_()
    with torch.no_grad():
        assert not held.mix(alpha).requires_grad
    assert held.mix(alpha).requires_grad
    assert not held.mix(alpha.detach()).requires_grad


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("masks", "error", "words"),
    [
        (torch.zeros(0, 4, dtype=torch.bool), SettingError, "at least one mask"),
        (torch.zeros(4, 0, dtype=torch.bool), SettingError, "at least one mask"),
        (torch.zeros(4, dtype=torch.bool), SettingError, r"expected a tensor \[m, n\]"),
        (torch.zeros(4, 2, 2), SettingError, r"expected a tensor \[m, n\]"),
        (torch.tensor([[0.0, math.nan]]), DataError, "finite"),
        (torch.tensor([[0.0, -math.inf]]), DataError, "finite"),
    ],
)
def test_what_are_no_masks_is_refused(form, masks, error, words):
    with pytest.raises(error, match=words):
        Masks.of(masks, form)


@pytest.mark.parametrize("form", ["fast", "bits"])
@pytest.mark.parametrize(
    "masks",
    [
        torch.tensor([[0, 2]], dtype=torch.int8),
        torch.tensor([[-128, 1]], dtype=torch.int8),
        torch.tensor([[255, 1]], dtype=torch.uint8),
        torch.tensor([[0.5, 1.0]]),
        torch.tensor([[1.0, 1.0], [1.0, -0.5]]),
    ],
)
def test_other_values_are_refused(form, masks):
    with pytest.raises(SettingError, match="choose form='plain'"):
        Masks.of(masks, form)
    assert_mix(Masks.of(masks, "plain").mix(torch.ones(len(masks))), masks, torch.ones(len(masks)))


def test_other_settings_are_refused():
    masks = random_masks(3, 8, 0.5)
    with pytest.raises(SettingError, match="form: expected one of fast, bits, plain, found 'small'"):
        Masks.of(masks, "small")
    for layers in ([], [masks, masks[:2]], [masks, masks[:, :0]], [masks[0]]):
        with pytest.raises(SettingError, match="masks: expected"):
            LayeredMasks.of(layers)
    packed = Masks.of(masks).to_packed()
    for bad in (packed.short(), packed[0], packed[:0], packed.repeat(1, 3)):
        with pytest.raises(SettingError, match=r"packed masks: expected uint8 \[m, 1\]"):
            Masks.from_packed(bad, 8)
    with pytest.raises(SettingError, match="packed masks"):
        LayeredMasks.from_packed(packed, [])
    with pytest.raises(SettingError, match="packed masks"):
        LayeredMasks.from_packed(packed, [(8,), (0, 3)])


@pytest.mark.parametrize("form", FORMS)
def test_other_calls_are_refused(form):
    held = Masks.of(random_masks(3, 8, 0.5), form)
    layered = LayeredMasks.of([random_masks(3, 8, 0.5)] * 2, form)
    for alpha in (normal(4), normal(3, 1), normal(1), torch.tensor(1.0)):
        with pytest.raises(SettingError, match=r"coefficients: expected shape \[3\]"):
            held.mix(alpha)
        with pytest.raises(SettingError, match="coefficients: expected shape"):
            held.mix_many(alpha)
        with pytest.raises(SettingError, match=r"coefficients: expected shape \[3, 2\]"):
            layered.mix(alpha)
    with pytest.raises(SettingError, match=r"found \[3\] on meta"):
        held.mix(torch.zeros(3, device="meta"))
    for value in (math.nan, math.inf):
        with pytest.raises(DataError, match="found 1 others of 3"):
            held.mix(torch.tensor([0.0, value, 1.0]))
    with pytest.raises(DataError, match="found 1 others of 3"):
        held.mix(torch.tensor([0.0, 1e300, 1.0], dtype=torch.float64))  # not finite in float32
    for g in (normal(7), normal(8, 1)):
        with pytest.raises(SettingError, match=r"gradient: expected shape \[8\]"):
            held.project(g)
    with pytest.raises(SettingError, match="gradients: expected 2 layers, found 1"):
        layered.project([normal(8)])
    for i in (-1, 3):
        with pytest.raises(SettingError, match="mask: expected 0 to 2"):
            held.row(i)
