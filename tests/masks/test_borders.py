"""Masks are begun where the data ask for it, by the paper's rule, and what was learned can be stopped anywhere."""

from itertools import pairwise

import pytest
import torch
from tests.learner_contract import toy_task
from torch import nn
from torch.nn.functional import cross_entropy

from stolon.errors import DataError, SettingError, StoreDamagedError, TaskError
from stolon.masks.borders import Borderless, Decision
from stolon.masks.fitting import MaskTraining
from stolon.masks.following import follow, noticed_borders
from stolon.masks.frozen import FrozenNet
from stolon.masks.inference import TaskSearch
from stolon.masks.popup import MaskRule, begin_scores
from stolon.tasks import Split, Stream, Task

SHAPE = (1, 8, 8)
CLASSES = 3
RULE = MaskRule(rule="nonnegative", scaled=False)
TRAINING = MaskTraining(epochs=6, batch_size=12, learning_rate=1e-3)


def centred(seed: int) -> Task:
    """Pixels of mean 0: images that are alike in their mean look alike to every mask."""
    task = toy_task(str(seed), seed)

    def moved(split):
        x, y = split.batch(torch.arange(len(split)))
        return Split.of((x - 0.5) * 4, y)

    return Task(task.name, task.classes, moved(task.train), moved(task.val), moved(task.test))


TASKS = [centred(i) for i in range(4)]


def normed() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.2), nn.AvgPool2d(3), nn.Flatten()
        )


def make(net="mlp-96", outputs=20, rule=RULE, training=TRAINING, **settings) -> Borderless:
    frozen = FrozenNet(net, SHAPE, outputs)
    return Borderless(frozen, rule, training, **{"classes": CLASSES, "look_every": 8, **settings})


def feed(learner, task, batches, size=12):
    """Mini-batches of a task, in order, round and round."""
    for number in range(batches):
        learner.observe(*task.train.batch((torch.arange(size) + number * size) % len(task.train)))
    return learner


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# The rule


def test_a_look_is_the_rule_of_the_paper():
    """Against finite differences of the mean entropy by each mask's share, in double precision."""
    learner = make(least_masks=5, rule=MaskRule(density=0.3), look_every=6, tolerance=0.01)
    for task in TASKS[:2]:
        feed(learner, task, 12)
    count = max(5, learner.tasks)
    scores = [learner._scores[i] if i < learner.tasks else learner._fresh(i) for i in range(count)]
    stacks = [
        torch.stack(
            [learner.rule.mask(each[layer]) * weight * learner.rule.scale(weight.shape) for each in scores]
        )
        for layer, weight in enumerate(learner.frozen.weights)
    ]
    x, y = TASKS[2].train.batch(torch.arange(12))

    def entropy(shares):
        mixed = [torch.tensordot(shares, stack.double(), 1) for stack in stacks]
        logs = learner.frozen(x.double(), mixed, {}, training=True).log_softmax(1)
        return -(logs.exp() * logs).sum(1).mean()

    even = torch.full((count,), 1 / count, dtype=torch.float64)
    steps = 1e-5 * torch.eye(count, dtype=torch.float64)
    slopes = torch.stack([(entropy(even + step) - entropy(even - step)) / 2e-5 for step in steps])
    nu = (-slopes).softmax(0)
    learner.observe(x, y)
    decision = learner.history[-1]
    assert decision.batch == 24
    assert decision.sureness == pytest.approx(count * nu.max().item(), rel=1e-4)
    is_new = count * nu.max() < 1.01 or int(nu.argmax()) >= len(learner._scores) - decision.is_new
    assert decision.is_new == is_new
    assert decision.mask == (learner.tasks - 1 if is_new else int(nu.argmax()))


@pytest.mark.parametrize(
    ("slopes", "tolerance", "least", "mask"),
    [
        ([-1.0, 0.0], 0.125, 1, 0),  # 2 * 0.73
        ([0.0, -1.0], 0.125, 1, 1),
        ([0.0, -0.2], 0.125, 1, 2),  # 2 * 0.5498 < 1.125
        ([0.0, -0.2], 0.09, 1, 1),
        ([-1.0, 0.0, 0.0, 0.0, 0.0], 0.125, 5, 0),  # 5 * 0.40
        (
            [0.0, 0.0, -1.0, 0.0, 0.0],
            0.125,
            5,
            2,
        ),  # an untrained one wins: a new task, whose number is the next
        ([0.0, 0.0, 0.0, 0.0, -1.0], 0.125, 5, 2),
        ([-0.1, 0.0, 0.0, 0.0, 0.0], 0.125, 5, 2),  # 5 * 0.216 < 1.125
        ([-0.1, 0.0, 0.0, 0.0, 0.0], 0.0, 5, 0),
    ],
)
def test_the_rule_by_numbers(monkeypatch, slopes, tolerance, least, mask):
    learner = make(look_every=1, tolerance=tolerance, least_masks=least)
    decided = iter([[0.0, 0.0, 0.0, 0.0, 0.0][: max(1, least)], slopes])

    def gradient(self, x, tasks):
        found = next(decided)
        assert len(tasks) == len(found)
        return torch.tensor(found)

    monkeypatch.setattr(TaskSearch, "batch_gradient", gradient)
    learner._tolerance = 0.125
    feed(learner, TASKS[0], 2)  # of one mask, or of five that are alike, none is sure
    assert learner.tasks == 2
    learner._tolerance = tolerance
    assert feed(learner, TASKS[0], 1).history[-1].mask == mask
    assert learner.tasks == max(2, mask + 1)


def test_the_paper_s_rule_begins_a_second_mask_at_the_second_look():
    learner = feed(make(least_masks=1, look_every=3), TASKS[0], 4)
    assert [decision.mask for decision in learner.history] == [0, 1]
    assert learner.history[1].sureness == 1


def test_masks_are_begun_for_new_data_and_gone_back_to_for_old():
    learner = make(net="mlp-256", outputs=100, tolerance=0.15)
    visits = [0, 1, 2, 0, 1]
    used = []
    for visit in visits:
        before = learner.batches
        feed(learner, TASKS[visit], 24)
        looks = [decision.mask for decision in learner.history if decision.batch >= before]
        used.append(looks[-1])
    assert len(set(used[:3])) == 3
    assert used[3:] == used[:2]
    for task, mask in zip(TASKS, used[:3], strict=False):
        x, y = task.test.batch(torch.arange(24))
        for per in ("sample", "batch"):
            answer = learner.predict(x, per=per)
            assert (answer.masks == mask).float().mean() > 0.8
            assert (answer.labels == y).float().mean() > 0.8


def test_labels_play_no_part_in_a_look():
    one, other = (feed(make(tolerance=0.2), TASKS[0], 8) for _ in range(2))
    x, y = TASKS[1].train.batch(torch.arange(12))
    one.observe(x, y)
    other.observe(x, (y + 1) % CLASSES)
    assert len(one.history) == 2
    assert one.history == other.history


def test_a_look_is_due_every_so_many_batches():
    learner = feed(make(look_every=5), TASKS[0], 13)
    assert [decision.batch for decision in learner.history] == [0, 5, 10]
    assert learner.batches == 13


# The training


def test_a_mask_is_trained_by_edge_popup_without_scaling_by_anybody_else():
    """Against a loop written from the formula: d loss / d scores = weight * d loss / d (mask * weight), plain SGD."""
    training = MaskTraining(learning_rate=0.5, optimizer="sgd", momentum=0)
    learner = make(training=training, look_every=100, seed=7)
    scores = [
        begin_scores(shape, RULE, 7, "borderless", 0, layer)
        for layer, shape in enumerate(learner.frozen.shapes)
    ]
    for number in range(3):
        x, y = TASKS[0].train.batch(torch.arange(12) + 12 * number)
        learner.observe(x, y)
        weights = [
            torch.where(layer >= 0, weight, 0.0).requires_grad_()
            for layer, weight in zip(scores, learner.frozen.weights, strict=True)
        ]
        gradients = torch.autograd.grad(
            cross_entropy(learner.frozen(x, weights, {}, training=True), y), weights
        )
        terms = zip(scores, gradients, learner.frozen.weights, strict=True)
        scores = [layer - 0.5 * gradient * weight for layer, gradient, weight in terms]
    for found, expected in zip(learner._scores[0], scores, strict=True):
        torch.testing.assert_close(found.detach(), expected)
    for found, expected in zip(learner.masks(0), scores, strict=True):
        assert torch.equal(found, expected >= 0)


def test_kept_weights_are_scaled_where_the_rule_says_so():
    learner = feed(make(rule=MaskRule(density=0.25, scaled=True), look_every=100), TASKS[0], 2)
    x, _ = TASKS[0].test.batch(torch.arange(5))
    weights = [
        mask * weight / (mask.float().mean() ** 0.5)
        for mask, weight in zip(learner.masks(0), learner.frozen.weights, strict=True)
    ]
    expected = learner.frozen(x, weights, {}, training=False)[:, :CLASSES].argmax(1)
    assert torch.equal(learner.predict(x).labels, expected)


def test_other_masks_and_their_statistics_stay_as_they_are_bit_for_bit(monkeypatch):
    learner = make(net=normed(), look_every=4)
    chosen = iter([1, 0, 1])
    learner = feed(learner, TASKS[0], 4)

    def look(x):
        mask = next(chosen)
        return Decision(learner.batches, mask, 2.0, mask == learner.tasks)

    monkeypatch.setattr(learner, "_look", look)
    for trained, left in ((1, 0), (0, 1), (1, 0)):
        of_left = (f"scores.{left}.", f"statistics.{left}.")
        before = {name: value for name, value in learner.state().items() if name.startswith(of_left)}
        assert {learner.observe(*TASKS[1].train.batch(torch.arange(12))) for _ in range(4)} == {trained}
        after = learner.state()
        for name, value in before.items():
            assert torch.equal(value, after[name])
        assert int(after["optimizer.0.step"]) == 4  # begun anew when the mask changed


# Stopping


@pytest.fixture(scope="module", params=["mlp", "normed"])
def run(request):
    """A stream of mini-batches, what makes the learner, and its states after each."""
    build = lambda: make(net=normed() if request.param == "normed" else "mlp-48", look_every=3, tolerance=0.3)  # noqa: E731
    batches = [TASKS[i // 6].train.batch((torch.arange(12) + 12 * i) % 48) for i in range(18)]
    learner, states = build(), []
    for batch in batches:
        states.append(learner.state())
        learner.observe(*batch)
    return build, batches, states, learner


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 7, 9, 17])
def test_stopped_anywhere_and_loaded_it_goes_on_bit_for_bit(run, cut):
    build, batches, states, whole = run
    learner = build()
    learner.load(states[cut])
    assert_same(learner.state(), states[cut])
    for batch in batches[cut:]:
        learner.observe(*batch)
    assert_same(learner.state(), whole.state())
    assert learner.history == whole.history
    x, _ = TASKS[1].test.batch(torch.arange(24))
    for found, expected in zip(learner.predict(x), whole.predict(x), strict=True):
        assert torch.equal(found, expected)


def test_the_run_that_is_stopped_has_several_masks(run):
    assert run[3].tasks >= 2


def test_a_state_is_a_copy(run):
    build, batches, states, _ = run
    learner = build()
    learner.load(states[5])
    before = {name: value.clone() for name, value in states[5].items()}
    taken = learner.state()
    learner.observe(*batches[5])
    assert_same(states[5], before)
    assert_same(taken, before)


def test_the_seed_decides():
    states = [feed(make(seed=seed), TASKS[0], 9).state() for seed in (0, 0, 1)]
    assert_same(states[0], states[1])
    assert not torch.equal(states[0]["scores.0.0"], states[2]["scores.0.0"])


def test_a_state_of_another_network_is_refused(run):
    build, _, states, _ = run
    learner = build()
    learner.load(states[4])
    shapes = {name: value[:1] if name == "scores.0.0" else value for name, value in states[9].items()}
    lacking = {name: value for name, value in states[9].items() if name != "scores.0.1"}
    for damaged in (shapes, lacking, {}):
        with pytest.raises(StoreDamagedError, match="this network"):
            learner.load(damaged)
        assert_same(learner.state(), states[4])
    for name in (name for name in states[9] if name.startswith("optimizer.")):
        with pytest.raises(StoreDamagedError, match="of the optimiser"):
            learner.load({key: value for key, value in states[9].items() if key != name})
        assert_same(learner.state(), states[4])
    spoiled = {**states[9], "scores.0.0": torch.full_like(states[9]["scores.0.0"], torch.nan)}
    with pytest.raises(StoreDamagedError, match="finite"):
        learner.load(spoiled)
    assert_same(learner.state(), states[4])


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"look_every": 0}, "look_every"),
        ({"look_every": 1.5}, "look_every"),
        ({"tolerance": -0.1}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"least_masks": 0}, "least_masks"),
        ({"classes": 0}, "classes"),
        ({"classes": 21}, "at most 20"),
        ({"objective": "joy"}, "objective"),
        ({"objective": "superfluous", "classes": 20}, "more outputs"),
        ({"training": MaskTraining(schedule="cosine")}, "schedule"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        make(**settings)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.rand(4, 1, 7, 7), torch.zeros(4, dtype=torch.int64), "expected inputs"),
        (torch.rand(4, *SHAPE), torch.zeros(3, dtype=torch.int64), "as many labels"),
        (torch.rand(0, *SHAPE), torch.zeros(0, dtype=torch.int64), "at least 1"),
        (torch.rand(4, *SHAPE), torch.zeros(4), "labels as integers"),
        (torch.rand(4, *SHAPE), torch.ones(4, dtype=torch.bool), "labels as integers"),
        (torch.rand(4, *SHAPE), torch.full((4,), CLASSES), "0 to 2"),
        (torch.rand(4, *SHAPE), torch.tensor([0, 1, -1, 0]), "0 to 2"),
        (torch.full((4, *SHAPE), torch.nan), torch.zeros(4, dtype=torch.int64), "finite"),
    ],
)
@pytest.mark.parametrize("begun", [0, 8])
def test_bad_mini_batches_are_refused_and_change_nothing(x, y, message, begun):
    learner = feed(make(), TASKS[0], begun)
    before = learner.state()
    with pytest.raises(DataError, match=message):
        learner.observe(x, y)
    assert_same(learner.state(), before)


def test_a_loss_that_is_not_finite_changes_nothing():
    learner = feed(make(net=normed(), look_every=4), TASKS[0], 8)
    before = learner.state()
    with pytest.raises(TaskError, match="finite"):
        learner.observe(torch.full((4, *SHAPE), 3e38), torch.zeros(4, dtype=torch.int64))
    assert_same(learner.state(), before)


def test_a_step_beyond_all_numbers_is_told_at_once():
    learner = make(training=MaskTraining(optimizer="sgd", learning_rate=1e38))
    with pytest.raises(TaskError, match=r"scores that are no numbers; load what was saved last"):
        learner.observe(100 * torch.rand(8, *SHAPE), torch.arange(8) % 3)
    with pytest.raises(DataError, match="finite"):
        make().predict(torch.full((1, *SHAPE), torch.nan))


def test_one_sample_has_no_variance():
    x, y = TASKS[0].train.batch(torch.arange(1))
    with pytest.raises(DataError, match="at least 2"):
        make(net=normed()).observe(x, y)
    assert make().observe(x, y) == 0


def test_nothing_is_known_before_anything_was_seen():
    learner = make()
    with pytest.raises(SettingError, match="found none"):
        learner.predict(torch.rand(2, *SHAPE))
    with pytest.raises(SettingError, match="below 0"):
        learner.masks(0)
    feed(learner, TASKS[0], 1)
    with pytest.raises(DataError, match="expected inputs"):
        learner.predict(torch.rand(2, 1, 4, 4))
    assert learner.predict(torch.rand(0, *SHAPE)).labels.tolist() == []


@pytest.mark.parametrize("search", ["one-shot", "binary"])
@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("objective", ["entropy", "superfluous"])
def test_labels_are_those_of_the_mask_that_is_found(search, per, objective):
    learner = make(objective=objective, least_masks=1, look_every=6)
    for task in TASKS[:2]:
        feed(learner, task, 12)
    assert learner.tasks > 1
    x, _ = TASKS[0].test.batch(torch.arange(9))
    found = learner.predict(x, search=search, per=per)
    if per == "batch":
        assert len(found.masks.unique()) == 1
    for row, (mask, label) in enumerate(zip(*found, strict=True)):
        weights = [m * w for m, w in zip(learner.masks(int(mask)), learner.frozen.weights, strict=True)]
        outputs = learner.frozen(x[row : row + 1], weights, {}, training=False)
        assert label == outputs[0, :CLASSES].argmax()


# A stream


@pytest.mark.parametrize(
    ("new", "places", "expected"),
    [
        ([0, 100, 200], [0, 95, 195, 300], (2, 0)),
        ([0, 100, 200], [0, 100, 200, 300], (2, 0)),
        ([0, 200], [0, 95, 195, 300], (1, 0)),
        ([0, 100, 150], [0, 95, 300], (1, 1)),
        ([0, 50, 150], [0, 95, 300], (0, 2)),  # one before the border, one that comes a look too late
        ([0, 100], [0, 60, 90, 300], (1, 0)),  # nobody looked during the second task
        ([], [0, 60, 90], (0, 0)),
    ],
)
def test_borders_noticed_and_false_alarms(new, places, expected):
    history = [Decision(batch, 0, 1.0, batch in new) for batch in range(0, places[-1], 50)]
    assert noticed_borders(history, places) == expected


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_following_a_stream_is_feeding_it_and_answering_its_tests(per):
    learner = make(net="mlp-256", outputs=100, tolerance=0.15)
    report = follow(learner, Stream("toy", TASKS[:3]), seed=1, per=per)
    assert learner.batches == 3 * 6 * 4
    assert report.borders == 2
    assert report.masks == learner.tasks == 1 + report.noticed + report.false_alarms
    places = [0, 24, 48, 72]
    firsts = [next(d for d in learner.history if begin <= d.batch < end) for begin, end in pairwise(places)]
    assert report.noticed == sum(decision.is_new for decision in firsts[1:])
    assert report.noticed > 0
    for task, accuracy in zip(TASKS, report.accuracies, strict=False):
        x, y = task.test.batch(torch.arange(24))
        assert accuracy == pytest.approx((learner.predict(x, per=per).labels == y).double().mean().item())
    assert sum(report.accuracies) / 3 > 0.6  # chance: a third


def test_a_stream_of_other_inputs_is_refused():
    learner = make()
    with pytest.raises(DataError, match="expected inputs"):
        follow(learner, Stream("toy", [toy_task("t", shape=(1, 9, 9))]))
    many = Task("many", tuple("abcd"), *[Split.of(torch.rand(4, *SHAPE), torch.arange(4) % 2)] * 3)
    with pytest.raises(DataError, match="at most 3 classes"):
        follow(learner, Stream("toy", [many]))
    assert learner.batches == 0


def test_dropout_in_looks_and_answers_is_a_function_of_the_seed():
    x, _ = TASKS[0].test.batch(torch.arange(24))
    answers = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        before = torch.random.get_rng_state()
        learner = make(net=normed(), look_every=2, tolerance=0.5)
        feed(learner, TASKS[0], 6)
        answers.append((learner.history, learner.predict(x, per="batch").masks.tolist()))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert answers[0] == answers[1]
