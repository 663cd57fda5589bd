import torch

from stolon.outcomes import UNKNOWN, Epoch, Prediction, Size


def test_an_unknown_input_is_not_known():
    answer = Prediction(torch.tensor([0, UNKNOWN]), ("a", None), ("t", None), torch.tensor([0.9, 0.0]))
    assert answer.known.tolist() == [True, False]


def test_a_size_counts_numbers_and_bytes_of_every_type():
    shared = {"w": torch.zeros(3, 4), "steps": torch.tensor(1)}
    size = Size.of(shared, {"a": {"h": torch.zeros(5)}, "b": {"i": torch.zeros(6, dtype=torch.uint8)}})
    assert (size.shared, dict(size.per_task), size.parameters) == (13, {"a": 5, "b": 6}, 24)
    assert size.bytes == 12 * 4 + 8 + 5 * 4 + 6
    assert dict(size.bytes_per_task) == {"a": 20, "b": 6}


def test_an_epoch_has_notes_of_its_own():
    a, b = Epoch("t", "train", 1, 2), Epoch("t", "train", 1, 2, notes={"configuration": "10"})
    assert a.notes == {}
    assert a != b
    assert b == Epoch("t", "train", 1, 2, notes={"configuration": "10"})


def test_an_epoch_can_be_a_key():
    assert hash(Epoch("t", "train", 1, 2)) == hash(Epoch("t", "train", 1, 2))
