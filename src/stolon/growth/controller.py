r"""RCL's controller: says how many units each layer is given, and learns from the reward.

.. math::
    \nabla_\theta J = (R - V(s)) \, \sum_l \nabla_\theta \log \pi_\theta(a_l \mid a_{<l}, s), \qquad
    \min_v \, (R - V_v(s))^2

pi is an LSTM that is asked layer by layer; V, the critic, is the baseline of REINFORCE. Ours, the paper is silent:

- What they know: the state s holds for each layer its units now per unit at the beginning. The LSTM reads for layer l
  the action of the layer before as one number of a kind (none for the first), and s_l; V is linear in s.
- V begins as the first trial's reward. From zero it would take most of 50 trials at its learning rate to get there,
  and until then praise whatever was done.
- Both are trained by Adam, one step after every trial.
"""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.optim import Adam

from stolon.randomness import seeded
from stolon.training import load_optimizer, optimizer_tensors


@final
class Policy(nn.Module):
    """An LSTM, and a softmax over the numbers of units.

    Args:
        actions: how many numbers there are to choose from, 0 included.
        layers: of the LSTM.
        width: of each.
    """

    def __init__(self, actions: int, layers: int, width: int) -> None:
        super().__init__()
        self.actions = actions
        self.lstm = nn.LSTM(actions + 1, width, layers)
        self.out = nn.Linear(width, actions)

    def log_probabilities(self, state: Tensor, chosen: Sequence[int]) -> Tensor:
        """Of each number of units, for each layer up to the one behind those chosen [layers, actions]."""
        asked = min(len(state), len(chosen) + 1)
        before = torch.zeros(asked, self.actions)
        if asked > 1:
            before[1:] = one_hot(torch.tensor(chosen[: asked - 1]), self.actions)
        hidden, _ = self.lstm(torch.cat([before, state[:asked, None]], 1))
        found: Tensor = self.out(hidden).log_softmax(1)
        return found

    @torch.no_grad()
    def sample(self, state: Tensor, g: torch.Generator) -> tuple[int, ...]:
        """A number of units for each layer, one after the other."""
        chosen: list[int] = []
        for _ in state:
            probabilities = self.log_probabilities(state, chosen)[-1].exp()
            chosen.append(int(torch.multinomial(probabilities, 1, generator=g)))
        return tuple(chosen)

    def log_probability(self, state: Tensor, chosen: Sequence[int]) -> Tensor:
        """Of all that was chosen: the sum over the layers."""
        found = self.log_probabilities(state, chosen)
        total: Tensor = found[torch.arange(len(chosen)), torch.tensor(chosen)].sum()
        return total


def policy_loss(log_probability: Tensor, reward: float, value: Tensor) -> Tensor:
    """Its gradient is the policy gradient, downwards: the baseline is a number to it."""
    return -(reward - value.detach()) * log_probability


def value_loss(reward: float, value: Tensor) -> Tensor:
    """The critic's squared error."""
    return (reward - value) ** 2


@final
class Controller:
    """Policy, critic and their optimisers; complete, as tensors, between any two trials.

    Args:
        state: s, one number for each layer.
        actions: how many numbers of units there are to choose from.
        layers: of the LSTM.
        width: of each.
        rates: learning rates of policy and critic.
        seed: of the policy's weights.
        task: what it is drawn for.
    """

    def __init__(
        self,
        state: Sequence[float],
        *,
        actions: int,
        layers: int,
        width: int,
        rates: tuple[float, float],
        seed: int,
        task: str,
    ) -> None:
        self.state = torch.tensor(state)
        with seeded(seed, "controller", task):
            self.policy = Policy(actions, layers, width)
            self.critic = nn.Linear(len(state), 1)
        with torch.no_grad():
            self.critic.weight.zero_()
        self._optimizers = {
            "policy": Adam(self.policy.parameters(), rates[0]),
            "critic": Adam(self.critic.parameters(), rates[1]),
        }
        self._is_new = True

    def sample(self, g: torch.Generator) -> tuple[int, ...]:
        """What to try."""
        return self.policy.sample(self.state, g)

    def learn(self, chosen: Sequence[int], reward: float) -> float:
        """One step of policy and critic; returns the advantage R - V."""
        if self._is_new:
            with torch.no_grad():
                self.critic.bias.fill_(reward)
            self._is_new = False
        value = self.critic(self.state)[0]
        loss = policy_loss(self.policy.log_probability(self.state, chosen), reward, value)
        for optimizer in self._optimizers.values():
            optimizer.zero_grad()
        (loss + value_loss(reward, value)).backward()  # they have no parameter in common
        for optimizer in self._optimizers.values():
            optimizer.step()
        return float((reward - value).detach())

    def tensors(self) -> dict[str, Tensor]:
        """All that it has learned."""
        return {
            "is_new": torch.tensor(self._is_new),
            **{f"policy/{name}": value for name, value in self.policy.state_dict().items()},
            **{f"critic/{name}": value for name, value in self.critic.state_dict().items()},
            **{
                f"{which}-optimizer/{name}": value
                for which, optimizer in self._optimizers.items()
                for name, value in optimizer_tensors(optimizer).items()
            },
        }

    def load(self, tensors: Mapping[str, Tensor]) -> "Controller":
        """Take back what :meth:`tensors` gave; returns the controller itself."""

        def part(which: str) -> dict[str, Tensor]:
            start = f"{which}/"
            return {
                name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
            }

        self._is_new = bool(tensors["is_new"])
        self.policy.load_state_dict(part("policy"))
        self.critic.load_state_dict(part("critic"))
        for which, optimizer in self._optimizers.items():
            load_optimizer(optimizer, part(f"{which}-optimizer"))
        return self
