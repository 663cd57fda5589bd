import math

import pytest
import torch

from stolon.transfer.objectives import accuracy_of, concatenated, log_likelihood, loss


def test_of_labels_it_is_the_log_of_the_softmax_at_each_label():
    outputs, y = torch.randn(3, 4, 5, dtype=torch.float64), torch.tensor([4, 0, 2, 2])
    found = log_likelihood(outputs, y)
    for k in range(3):
        for b in range(4):
            p = [math.exp(score) for score in outputs[k, b].tolist()]
            assert float(found[k, b]) == pytest.approx(math.log(p[y[b]] / sum(p)), rel=1e-12)
    torch.testing.assert_close(loss(outputs, y), -found.mean(1))


def test_of_numbers_it_is_that_of_gaussians_of_unit_variance():
    outputs, y = torch.randn(3, 4, 2, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    found = log_likelihood(outputs, y)
    for k in range(3):
        for b in range(4):
            densities = [
                math.exp(-((o - t) ** 2) / 2) / math.sqrt(2 * math.pi)
                for o, t in zip(outputs[k, b].tolist(), y[b].tolist(), strict=True)
            ]
            assert float(found[k, b]) == pytest.approx(math.log(math.prod(densities)), rel=1e-12)
    constant = math.log(2 * math.pi)  # half of it for each of the two outputs
    torch.testing.assert_close(loss(outputs, y), -found.mean(1) - constant)


def test_the_best_numbers_have_no_loss():
    y = torch.randn(4, 2)
    assert loss(y[None], y).tolist() == [0]


def test_scores_are_shares_of_right_labels_or_determination():
    outputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert accuracy_of(outputs, torch.tensor([0, 1, 1, 0])) == 0.75
    y = torch.tensor([[0.0], [1.0], [2.0]])
    assert accuracy_of(y, y) == 1
    assert accuracy_of(torch.ones(3, 1), y) == 0
    assert accuracy_of(2 - y, y) == pytest.approx(1 - 8 / 2)


def test_batches_are_put_together_in_order():
    outputs, labels = concatenated(
        [(torch.ones(2, 3), torch.tensor([0, 1])), (torch.zeros(1, 3), torch.tensor([2]))]
    )
    assert outputs.sum(1).tolist() == [3, 3, 0]
    assert labels.tolist() == [0, 1, 2]
