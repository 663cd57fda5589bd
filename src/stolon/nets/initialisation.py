"""How weights are drawn: a net that draws them in a way of its own says so by a method ``initialise``."""

from collections.abc import Callable

from torch import nn


def truncated_normal(module: nn.Module) -> None:
    """Draw all weights below a module from a normal of sigma 0.05 cut at two sigma; biases become 0.2.

    The initialisation of all plain convolutions and fully connected layers in the released code of Lee et al.,
    ICML 2021 (the papers do not state it). Uses torch's global generator: call it within
    :func:`stolon.randomness.seeded`.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.05, a=-0.1, b=0.1)
            if part.bias is not None:
                nn.init.constant_(part.bias, 0.2)


def own_way(net: nn.Module) -> Callable[[nn.Module], None] | None:
    """How the net draws its weights: its method or attribute ``initialise``; None where it has none."""
    return getattr(net, "initialise", None)


def renew(module: nn.Module, net: nn.Module) -> None:
    """Draw a module's parameters anew, as the net's own were drawn: a fresh tail for the next task.

    A net without ``initialise`` draws as torch does: each part by its ``reset_parameters``. What has no such
    method, such as a bare parameter of a block of one's own, keeps the values it was given. Uses torch's global
    generator: call it within :func:`stolon.randomness.seeded`.
    """
    draw = own_way(net)
    if draw is not None:
        draw(module)
        return
    for part in module.modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
