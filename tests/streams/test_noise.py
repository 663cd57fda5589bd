import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stolon.errors import DataError
from stolon.streams.noise import Disturbance, gaussian

KEYS = st.integers(0, 2**64 - 1)


def naive_splitmix(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def naive_noise(row, pixel, key):
    """One value by whole numbers, one step after the other."""
    halves = []
    for number, own in ((row, key), (pixel // 2, key ^ 0xA5A5_A5A5_5A5A_5A5A)):
        halves.append(naive_splitmix((number * 0x9E3779B97F4A7C15 + naive_splitmix(own)) % 2**64) >> 32)
    h = sum(halves) % 2**32
    h ^= h >> 16
    h = h * 0x7FEB352D % 2**32
    h ^= h >> 15
    h = h * 0x846CA68B % 2**32
    h ^= h >> 16
    return statistics.NormalDist().inv_cdf(((h >> 16 * (pixel % 2)) % 2**16 + 0.5) / 2**16)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40), st.integers(1, 9), KEYS)
def test_noise_is_that_of_the_naive_hash(rows, pixels, key):
    made = gaussian(torch.tensor(rows), pixels, key)
    wanted = [[naive_noise(row, pixel, key) for pixel in range(pixels)] for row in rows]
    assert torch.allclose(made, torch.tensor(wanted), atol=1e-6)


@given(st.lists(st.integers(0, 2**40), max_size=50), st.integers(1, 8), KEYS, st.randoms())
def test_the_same_image_has_the_same_bits_in_any_batch_and_order(rows, pixels, key, random):
    whole = gaussian(torch.tensor(rows, dtype=torch.int64), pixels, key, mean=0.1, std=0.3)
    order = random.sample(range(len(rows)), len(rows))
    while order:
        count = random.randint(1, len(order))
        indices, order = order[:count], order[count:]
        batch = gaussian(torch.tensor([rows[i] for i in indices]), pixels, key, mean=0.1, std=0.3)
        assert torch.equal(batch, whole[indices])


def test_noise_is_gaussian_and_independent():
    rows = torch.arange(200)
    noise = gaussian(rows, 3 * 64 * 64, key=1).double()
    error = noise.numel() ** -0.5
    assert abs(float(noise.mean())) < 4 * error
    assert abs(float(noise.square().mean()) - 1) < 4 * math.sqrt(2) * error + 1e-3  # tails end at 4.3
    assert abs(float((noise**3).mean())) < 4 * math.sqrt(15) * error
    assert abs(float((noise**4).mean()) - 3) < 4 * math.sqrt(96) * error + 1e-2
    for other in (
        noise.roll(1, 0),  # neighbouring images
        noise.roll(1, 1),  # neighbouring pixels, half of which share a hash
        noise.roll(2, 1),
        noise.roll(64, 1),
        gaussian(rows, noise.shape[1], key=2).double(),  # a neighbouring key
        gaussian(rows, noise.shape[1], key=1 + 2**63).double(),
    ):
        assert abs(float((noise * other).mean())) < 4.5 * error
    images = torch.corrcoef(noise).fill_diagonal_(0)
    assert float(images.abs().max()) < 5.5 * noise.shape[1] ** -0.5
    pixels = torch.corrcoef(gaussian(torch.arange(3000), 200, key=1).double().T).fill_diagonal_(0)
    assert float(pixels.abs().max()) < 5.5 * 3000**-0.5


IMAGES = torch.randint(0, 256, (20, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mean", [-0.05, 0.0, 0.3])
@pytest.mark.parametrize("std", [0.0, 0.2])
@pytest.mark.parametrize("channels", [(0, 1, 2), (2, 0, 1)])
def test_a_disturbance_is_noise_then_a_clip_then_other_channels(mean, std, channels):
    rows = torch.arange(100, 120)
    made = Disturbance(mean, std, channels, key=3)(IMAGES, rows)
    assert made.dtype == torch.float32
    for image, row, found in zip(IMAGES, rows.tolist(), made, strict=True):
        noise = mean + std * gaussian(torch.tensor([row]), 60, 3).view(3, 5, 4)
        wanted = (image.float() / 255 - 0.5 + noise).clamp(-0.5, 0.5)
        for channel, source in enumerate(channels):
            assert torch.allclose(found[channel], wanted[source], atol=1e-6)
    empty = Disturbance(mean, std, channels, key=3)(IMAGES[:0], rows[:0])
    assert (empty.dtype, empty.shape) == (torch.float32, (0, 3, 5, 4))


def test_images_of_other_channels_are_refused():
    with pytest.raises(DataError, match="images of 3 channels"):
        Disturbance(0.0, 0.0, (0, 1, 2), 0)(IMAGES[:, :1], torch.arange(20))


def test_the_images_stay_as_they_were():
    before = IMAGES.clone()
    floats = IMAGES.float() / 255
    kept = floats.clone()
    for images in (IMAGES, floats):
        Disturbance(0.1, 0.1, (1, 0, 2), 0)(images, torch.arange(20))
        Disturbance(0.1, 0.0, (1, 0, 2), 0)(images, torch.arange(20))
    assert torch.equal(IMAGES, before)
    assert torch.equal(floats, kept)
