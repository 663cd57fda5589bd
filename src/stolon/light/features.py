"""Features of whole splits, computed once, in chunks between which the work can stop."""

from collections.abc import Iterator
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
