"""Transfer configurations: which parts of a network a task shares, and the space of those that are tried.

A network has d layers that can be transferred. A configuration says for each whether it is shared (1) or a task's
own (0): c in {0, 1}^d (LASEM, section 3). Beyond the papers' experiments, a layer's output channels can be divided
into ``parts`` that are shared or not one by one ("partial transfer within a layer", the papers' future work), and
layers can be tied into groups, adjacent or not (ICLR version, appendix E).
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import torch
from torch import Tensor

from stolon.errors import SettingError

MAX_CONFIGURATIONS: Final = 4096
"""More than these are not enumerated: the E-step looks at each."""

STATIC: Final = ("all", "none", "alternating", "top-K", "bottom-K", "2,4")
"""What :func:`parse` understands; K is a number of layers."""


@final
@dataclass(frozen=True, order=True)
class Configuration:
    """Which parts of which layers are shared.

    Attributes:
        shared: for each layer, for each part of its output channels, whether it is shared.

    Example:
        >>> str(Configuration.of([0, 1, 0, 1]))
        '0101'
        >>> Configuration.of([0, 1, 0, 1]).layers
        (2, 4)
    """

    shared: tuple[tuple[bool, ...], ...]

    @staticmethod
    def of(layers: Iterable[int], parts: int = 1) -> "Configuration":
        """Whole layers: 1 is shared, 0 a task's own."""
        return Configuration(tuple((bool(layer),) * parts for layer in layers))

    @staticmethod
    def from_text(text: str) -> "Configuration":
        """What ``str`` gave: a digit for each layer; ``"10|11"`` where layers have parts, ``"10|"`` of one layer.

        Raises:
            SettingError: it is no such text.
        """
        one_layer = re.fullmatch(r"([01]+)\|", text)
        rows = [one_layer[1]] if one_layer else text.split("|") if "|" in text else list(text)
        if not text or any(not re.fullmatch("[01]+", row) or len(row) != len(rows[0]) for row in rows):
            raise SettingError(f"configuration: expected digits such as '0101' or '10|11', found {text!r}")
        return Configuration(tuple(tuple(digit == "1" for digit in row) for row in rows))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that share all their parts, counted from 1 as in the papers."""
        return tuple(i for i, row in enumerate(self.shared, start=1) if all(row))

    @property
    def shares_anything(self) -> bool:
        """Whether any part of any layer is shared."""
        return any(map(any, self.shared))

    def __str__(self) -> str:
        rows = ["".join("01"[part] for part in row) for row in self.shared]
        if len(rows[0]) == 1:
            return "".join(rows)
        return "|".join(rows) + ("|" if len(rows) == 1 else "")  # else its parts would read as layers


@final
@dataclass(frozen=True)
class Space:
    """The configurations that a method chooses from, in a fixed order.

    Attributes:
        choices: distinct configurations of one network; the first is all-shared where that is among them.
    """

    choices: tuple[Configuration, ...]

    @staticmethod
    def every(layers: int, *, groups: Sequence[Sequence[int]] | None = None, parts: int = 1) -> "Space":
        """All configurations, from all-shared to none-shared, those that share the top layers first.

        The released code's order: of equals the first is chosen, so ties share top layers.

        Args:
            layers: how many layers can be transferred.
            groups: which layers are shared together: each layer, counted from 1, in exactly one group; adjacent
                or not. None takes each by itself.
            parts: into how many parts each layer's output channels are divided.

        Raises:
            SettingError: the groups are no partition, or there would be too many configurations.

        Example:
            >>> [str(c) for c in Space.every(2).choices]
            ['11', '01', '10', '00']
            >>> [str(c) for c in Space.every(4, groups=[[1, 3], [2, 4]]).choices]
            ['1111', '0101', '1010', '0000']
        """
        found = check_groups(groups, layers)
        units = len(found) * parts
        if 2**units > MAX_CONFIGURATIONS:
            raise SettingError(
                f"expected at most {MAX_CONFIGURATIONS} configurations, found 2^{units}; "
                "tie layers into groups (groups=[[1, 2], [3, 4]])"
            )
        group_of = {layer: i for i, group in enumerate(found) for layer in group}
        # the last varies slowest: reversed, the first layer is given up first
        rows = (
            row[::-1]
            for row in itertools.product(itertools.product((True, False), repeat=parts), repeat=len(found))
        )
        return Space(
            tuple(
                Configuration(tuple(row[group_of[layer]] for layer in range(1, layers + 1))) for row in rows
            )
        )

    def __len__(self) -> int:
        return len(self.choices)

    @cached_property
    def matrix(self) -> Tensor:
        """Share of each layer's parts that are shared, float [K, d]."""
        return torch.tensor([[sum(row) / len(row) for row in c.shared] for c in self.choices])

    def index(self, configuration: Configuration) -> int:
        """The position of a configuration.

        Raises:
            SettingError: it is not in this space.
        """
        try:
            return self.choices.index(configuration)
        except ValueError:
            raise SettingError(
                f"configuration {configuration} is none of the {len(self)} that are chosen from"
            ) from None


def check_groups(groups: Sequence[Sequence[int]] | None, layers: int) -> tuple[tuple[int, ...], ...]:
    """The groups, each layer by itself where there are none.

    Raises:
        SettingError: they are no partition of the layers.
    """
    if groups is None:
        return tuple((layer,) for layer in range(1, layers + 1))
    lists = isinstance(groups, list | tuple) and all(isinstance(group, list | tuple) for group in groups)
    if not lists or not all(isinstance(layer, int) for group in groups for layer in group):
        raise SettingError(f"groups: expected lists of layers such as [[1, 2], [3]], found {groups!r}")
    found = tuple(tuple(group) for group in groups)
    if sorted(layer for group in found for layer in group) != list(range(1, layers + 1)) or not all(found):
        raise SettingError(
            f"groups: expected each of the layers 1 to {layers} in exactly one group, found {list(map(list, found))}"
        )
    return found


def adjacent(sizes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Groups of adjacent layers by their sizes.

    Example:
        >>> adjacent([2, 1])
        ((1, 2), (3,))
    """
    ends = list(itertools.accumulate(sizes))
    return tuple(tuple(range(end - size + 1, end + 1)) for size, end in zip(sizes, ends, strict=True))


def parse(text: str, layers: int, parts: int = 1) -> Configuration:
    """A configuration by name, for a network of so many layers.

    Args:
        text: ``"all"``, ``"none"``, ``"alternating"`` (layers 2, 4, ...), ``"top-K"`` (the K highest layers are
            shared), ``"bottom-K"`` (the K lowest), the shared layers counted from 1, such as ``"2,4"``, or with
            parts one digit for each, such as ``"10|11"``.
        layers: of the network.
        parts: of each layer.

    Raises:
        SettingError: it names none, or layers that there are not.

    Example:
        >>> [str(parse(text, 4)) for text in ("top-1", "bottom-1", "alternating", "1,4")]
        ['0001', '1000', '0101', '1001']
    """
    numbers = range(1, layers + 1)
    if "|" in text:
        found = Configuration.from_text(text)
        if len(found.shared) != layers or len(found.shared[0]) != parts:
            raise SettingError(f"configuration: expected {layers} layers of {parts} parts, found {text!r}")
        return found
    if match := re.fullmatch(r"(top|bottom)-(\d+)", text):
        count = int(match[2])
        if not 1 <= count <= layers:
            raise SettingError(f"configuration {text!r}: expected 1 to {layers} layers, found {count}")
        shared = set(numbers[-count:] if match[1] == "top" else numbers[:count])
    elif re.fullmatch(r"\d+(,\d+)*", text):
        listed = [int(number) for number in text.split(",")]
        if len(set(listed)) < len(listed) or not set(listed) <= set(numbers):
            raise SettingError(f"configuration {text!r}: expected distinct layers from 1 to {layers}")
        shared = set(listed)
    else:
        named = {"all": set(numbers), "none": set[int](), "alternating": set(numbers[1::2])}
        if text not in named:
            raise SettingError(f"configuration: expected one of {', '.join(STATIC)}, found {text!r}")
        shared = named[text]
    return Configuration.of((layer in shared for layer in numbers), parts)


def static_family(layers: int) -> tuple[str, ...]:
    """The static configurations of the papers' figures: All, Top k, Bottom k, Alternating.

    Eight for 4 layers, as in the paper. For 6 layers the paper counts 16 and names only these twelve; the other four
    are nowhere to be found and are our choice: {1,3,5}, {3,4}, {1,2,5,6}, {2,3,4,5}.

    Example:
        >>> static_family(4)
        ('all', 'top-1', 'top-2', 'top-3', 'bottom-1', 'bottom-2', 'bottom-3', 'alternating')
        >>> len(static_family(6))
        16
    """
    tops = [f"top-{k}" for k in range(1, layers)]
    bottoms = [f"bottom-{k}" for k in range(1, layers)]
    ours = ("1,3,5", "3,4", "1,2,5,6", "2,3,4,5") if layers == 6 else ()
    return ("all", *tops, *bottoms, "alternating", *ours)
