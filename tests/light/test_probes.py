import torch

from stolon.light.probes import PER_CLASS, PER_TASK, choose


def labelled(*counts, width=3):
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
    return torch.arange(len(labels), dtype=torch.float32)[:, None].expand(-1, width), labels


def classes_of(probes, labels):
    return labels[probes[:, 0].long()].bincount().tolist()


def test_each_class_has_as_many_probes_as_it_can_up_to_the_limit():
    x, y = labelled(100, 5, 40)
    assert classes_of(choose(x, y, 0), y) == [PER_CLASS, 5, PER_CLASS]


def test_with_many_classes_all_have_a_few():
    x, y = labelled(*[20] * 90)
    found = classes_of(choose(x, y, 0), y)
    assert sum(found) == PER_TASK
    assert set(found) == {5, 6}


def test_the_choice_is_the_seeds():
    x, y = labelled(100, 100)
    assert torch.equal(choose(x, y, 1), choose(x, y, 1))
    assert not torch.equal(choose(x, y, 1), choose(x, y, 2))


def test_features_beyond_half_precision_stay_finite():
    assert choose(torch.full((2, 3), -1e9), torch.tensor([0, 1]), 0).isfinite().all()
