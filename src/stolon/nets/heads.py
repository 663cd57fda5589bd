"""Linear heads: one per task, on the features that a net gives."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.utils import skip_init

from stolon.nets.initialisation import own_way
from stolon.nets.registry import feature_count
from stolon.randomness import seeded


def new_head(net: nn.Module, input_shape: tuple[int, ...], classes: int, seed: int, task: str) -> nn.Linear:
    """A fresh linear head on the net's features; its weights are a function of seed and task.

    They are drawn by the net's own ``initialise`` where it has one, else by torch.
    """
    features = feature_count(net, input_shape)
    with seeded(seed, "head", task):
        head = nn.Linear(features, classes)
        draw = own_way(net)
        if draw is not None:
            draw(head)
    return head


def load_head(tensors: Mapping[str, Tensor]) -> nn.Linear:
    """The head whose ``state_dict`` this is."""
    classes, features = tensors["weight"].shape
    # no weights are drawn: torch's global randomness is nobody's to use
    head: nn.Linear = skip_init(nn.Linear, features, classes)
    head.load_state_dict(dict(tensors))
    return head
