import torch

from stolon.transfer.mechanisms import Hard


def test_all_tasks_have_the_one_weight_as_the_net_drew_it():
    hard, g = Hard([torch.Size((4, 3, 2, 2))]), torch.Generator()
    initial = torch.randn(4, 3, 2, 2)
    shared = hard.shared(0, initial, g)
    assert hard.factors(0, initial, g) == {}
    assert torch.equal(hard.kernel(0, shared, {}), initial)
    assert torch.equal(hard.bias(torch.arange(4.0), g), torch.arange(4.0))
    assert hard.penalty({}) is None
    assert hard.shares_all
    assert hard.by_channel
