"""Features of a frozen backbone, computed once: of whole splits, and of inputs that are asked about again."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock
from typing import final

import torch
from torch import Tensor

from stolon.errors import StoreDamagedError
from stolon.nets.backbone import BATCH, Backbone
from stolon.tasks import Split

CHUNK = 4 * BATCH
"""Images between two chances to stop."""


@final
class FeaturePass:
    """One forward pass of a frozen backbone over a split.

    Args:
        backbone: gives the features.
        split: what is passed through it.
        done: features [n, D] that an earlier, interrupted pass got to.
    """

    def __init__(self, backbone: Backbone, split: Split, done: Tensor | None = None) -> None:
        self._backbone, self._split = backbone, split
        self._chunks = [] if done is None or not len(done) else [done]
        if done is not None and len(done) > len(split):
            raise StoreDamagedError(f"expected at most {len(split)} features, found {len(done)}")

    @property
    def features(self) -> Tensor:
        """Those computed so far, float [n, D]."""
        if len(self._chunks) > 1:
            self._chunks = [torch.cat(self._chunks)]
        return self._chunks[0] if self._chunks else torch.zeros(0, 0)

    def run(self) -> Iterator[int]:
        """Go on to the end; yields the number of samples done after every chunk."""
        done = sum(len(chunk) for chunk in self._chunks)
        while done < len(self._split):
            indices = torch.arange(done, min(done + CHUNK, len(self._split)))
            rows = [self._backbone.features(self._split.batch(part)[0]) for part in indices.split(BATCH)]
            self._chunks.append(torch.cat(rows))
            done += len(indices)
            yield done


@final
class FeatureMemo:
    """Features of inputs seen lately: an evaluation asks about the same images after every task.

    Inputs are recognised by the SHA-256 of their bytes, which costs about a hundredth of a forward pass. Several
    threads may ask at once.

    Args:
        backbone: gives the features.
        most_bytes: features beyond this are dropped, the longest unused first.
    """

    def __init__(self, backbone: Backbone, most_bytes: int = 2**26) -> None:
        self._backbone, self._most_bytes = backbone, most_bytes
        self._known: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    @property
    def backbone(self) -> Backbone:
        """What gives the features."""
        return self._backbone

    def features(self, x: Tensor) -> Tensor:
        """Features [B, D] of inputs [B, ...], in batches of the one size that all of stolon uses."""
        return torch.cat([self._batch(part) for part in x.split(BATCH)])

    def _batch(self, x: Tensor) -> Tensor:
        sha = hashlib.sha256(f"{x.dtype}{list(x.shape)}".encode())
        sha.update(x.contiguous().view(torch.uint8).numpy().data)
        key = sha.hexdigest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = self._backbone.features(
            x
        )  # outside the lock: it takes long, and doing it twice harms nothing
        with self._lock:
            if key not in self._known:
                self._known[key] = found
                self._bytes += found.nbytes
            while self._bytes > self._most_bytes and len(self._known) > 1:
                self._bytes -= self._known.popitem(last=False)[1].nbytes
        return found
