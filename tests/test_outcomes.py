import torch

from stolon.outcomes import UNKNOWN, Prediction, Size


def test_an_unknown_input_is_not_known():
    answer = Prediction(torch.tensor([0, UNKNOWN]), ("a", None), ("t", None), torch.tensor([0.9, 0.0]))
    assert answer.known.tolist() == [True, False]


def test_a_size_counts_numbers_and_bytes_of_every_type():
    shared = {"w": torch.zeros(3, 4), "steps": torch.tensor(1)}
    size = Size.of(shared, {"a": {"h": torch.zeros(5)}, "b": {"i": torch.zeros(6, dtype=torch.uint8)}})
    assert (size.shared, dict(size.per_task), size.parameters) == (13, {"a": 5, "b": 6}, 24)
    assert size.bytes == 12 * 4 + 8 + 5 * 4 + 6
    assert dict(size.bytes_per_task) == {"a": 20, "b": 6}
