import dataclasses
import re
from pathlib import Path

import pytest
from tests.growth.searching import NAMES

import stolon
from stolon.errors import RecipeChangedError, SettingError, StoreDamagedError, StoreMissingError
from stolon.growth.search import Search, SearchSettings, best, read
from stolon.growth.search_space import SearchSpace
from stolon.growth.sequences import GrowSequence, Outcome, Step

RECIPE = {"net": "a net", "settings": {"epochs": 1}}
EVERYTHING = SearchSpace(deltas="each", binds="searched", order="searched")
SPACES = [SearchSpace(), SearchSpace(deltas="each"), SearchSpace(binds="searched"), EVERYTHING]


def outcome(sequence):
    """A made-up outcome that depends on the sequence alone: growth helps, up to a point."""
    deltas = [step.delta for step in sequence.steps]
    growth = sum(deltas) / len(deltas) + 0.01 * sequence.tasks.index("one")
    gain = 0.2 - (growth - 0.6) ** 2
    same = dict.fromkeys(sequence.tasks, 0.5)
    return Outcome(
        sequence=sequence,
        val=dict.fromkeys(sequence.tasks, 0.5 + gain),
        test=dict.fromkeys(sequence.tasks),
        alone_val=same,
        alone_test=dict.fromkeys(sequence.tasks),
        inputs=dict.fromkeys(sequence.tasks, 10),
        parameters=int(1000 * growth),
        parameters_apart=1000,
        bytes=4000,
        growths=(),
    )


def make(path, settings=None, recipe=RECIPE, tasks=NAMES):
    return Search(path, settings or SearchSettings(), tasks, recipe, {"command": "by hand"})


def go_on(search, trials, stop_after=None, backwards=False):
    """Do what is open; stop after so many."""
    done = 0
    while opened := search.open(trials):
        for trial in reversed(opened) if backwards else opened:
            if done == stop_after:
                return
            search.tell(trial.number, outcome(trial.sequence))
            done += 1


def sequences(search):
    return [trial.sequence for trial in search.trials]


# The space


def test_the_papers_space_is_one_delta_in_steps_of_a_twentieth():
    (choices,) = SearchSpace().dimensions(NAMES).values()
    assert choices == tuple(round(0.05 * i, 2) for i in range(21))
    assert SearchSpace().sequence({"delta": 0.15000000000000002}, NAMES) == GrowSequence.shared(NAMES, 0.15)


def test_choices_become_a_sequence():
    chosen = {
        "key[one]": 0.9,
        "key[two]": 0.1,
        "key[three]": 0.5,
        "delta[one]": 0.2,
        "delta[two]": 0.4,
        "delta[three]": 0.6,
        "bind[2]": 1,
    }
    expected = (Step("two", 0.4), Step("three", 0.6, "two"), Step("one", 0.2, "three"))
    assert EVERYTHING.sequence(chosen, NAMES).steps == expected
    assert set(EVERYTHING.dimensions(NAMES)) == set(chosen)


def test_what_is_no_choice_is_not_chosen():
    assert list(SearchSpace(deltas="each").dimensions(NAMES)) == ["delta[two]", "delta[three]"]
    assert list(SearchSpace(binds="searched").dimensions(NAMES[:2])) == ["delta"]
    assert SearchSpace(binds="searched").sequence({"delta": 0.5}, NAMES[:2]).steps[1].bind == "one"


def test_a_grid_visits_every_point_once():
    space = SearchSpace(deltas="each", step=0.5, binds="searched")
    count = space.count(NAMES)
    assert count == 3 * 3 * 2
    points = [space.sequence(space.point(i, NAMES), NAMES) for i in range(count)]
    assert len(set(points)) == count
    assert [SearchSpace().point(i, NAMES)["delta"] for i in (0, 1, 20)] == [0, 0.05, 1]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"deltas": "some"}, "deltas"),
        ({"binds": "random"}, "binds"),
        ({"order": "shuffled"}, "order"),
        ({"step": 0.3}, "goes into 1"),
        ({"step": 0}, "step: expected 0.001 to 1"),
        ({"step": 1e-9}, "step: expected 0.001 to 1"),
        ({"step": True}, "step"),
        ({"step": 2}, "step"),
    ],
)
def test_spaces_that_make_no_sense_are_refused(changed, match):
    with pytest.raises(SettingError, match=match):
        SearchSpace(**changed)


@pytest.mark.parametrize(
    "changed", [{"sampler": "guess"}, {"population": 1}, {"together": -1}, {"seed": -1}, {"startup": 0}]
)
def test_settings_that_make_no_sense_are_refused(changed):
    with pytest.raises(SettingError, match=next(iter(changed))):
        SearchSettings(**changed)


def test_a_grid_of_orders_is_refused_and_nothing_is_made(tmp_path):
    settings = SearchSettings(sampler="grid", space=SearchSpace(order="searched"))
    with pytest.raises(SettingError, match="another sampler"):
        make(tmp_path / "journal.log", settings)
    assert not list(tmp_path.iterdir())


# The search


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.deltas}-{space.binds}-{space.order}")
@pytest.mark.parametrize("sampler", ["nsga2", "random"])
def test_a_resumed_search_is_the_uninterrupted_one(tmp_path, sampler, space):
    settings = SearchSettings(sampler=sampler, space=space, population=4, seed=3)
    whole = make(tmp_path / "whole.log", settings)
    go_on(whole, 12)
    for trials, stop_after in ((12, 2), (7, 4), (12, None)):
        go_on(make(tmp_path / "parts.log", settings), trials, stop_after, backwards=True)
    parts = make(tmp_path / "parts.log", settings)
    assert parts.trials == whole.trials
    assert len(parts.trials) == 12
    assert len(set(sequences(whole))) > 4


def test_the_gaussian_process_searches_and_resumes_alike(tmp_path):
    settings = SearchSettings(sampler="gp", startup=5, space=SearchSpace(deltas="each"))
    whole, parts = make(tmp_path / "whole.log", settings), make(tmp_path / "parts.log", settings)
    go_on(whole, 8)
    go_on(parts, 8, stop_after=3)
    go_on(make(tmp_path / "parts.log", settings), 8)
    assert make(tmp_path / "parts.log", settings).trials == whole.trials
    assert whole.trials[-1].outcome is not None


def test_another_seed_tries_other_sequences(tmp_path):
    searches = [make(tmp_path / f"{seed}.log", SearchSettings(seed=seed)) for seed in (0, 1)]
    for search in searches:
        go_on(search, 5)
    assert sequences(searches[0]) != sequences(searches[1])


def test_evolution_learns_from_what_was_found(tmp_path):
    settings = SearchSettings(population=6, space=SearchSpace(deltas="each"))
    search = make(tmp_path / "journal.log", settings)
    go_on(search, 36)
    gains = [trial.outcome.gain for trial in search.trials]
    assert sum(gains[-12:]) > sum(gains[:6]) * 2


def test_a_grid_ends_with_its_last_point(tmp_path):
    search = make(tmp_path / "journal.log", SearchSettings(sampler="grid", space=SearchSpace(step=0.25)))
    go_on(search, 20)
    assert [trial.sequence.steps[1].delta for trial in search.trials] == [0, 0.25, 0.5, 0.75, 1]


def test_a_trial_that_was_under_way_is_done_first_and_the_same(tmp_path):
    first = make(tmp_path / "journal.log")
    opened = first.open(20)
    assert len(opened) == 10
    first.tell(3, outcome(opened[3].sequence))
    again = make(tmp_path / "journal.log").open(20)
    assert again == tuple(trial for trial in opened if trial.number != 3)


def test_what_a_kill_left_torn_is_mended(tmp_path):
    path = tmp_path / "journal.log"
    go_on(make(path), 20, stop_after=4)
    before = make(path).trials
    with path.open("ab") as file:
        file.write(b'{"op_code":6,"worker_id":"half a li')
    path.with_name("journal.log.lock").symlink_to(
        path
    )  # what Optuna leaves where it is killed while it writes
    assert read(path).trials == before
    search = make(path)
    assert search.trials == before
    go_on(search, 10)
    assert len(read(path).trials) == 10


def test_failed_trials_are_told_and_passed_over(tmp_path):
    search = make(tmp_path / "journal.log", SearchSettings(population=4))
    for trial in search.open(4):
        if trial.number == 1:
            search.fail(1, "TaskError: it blew up")
        else:
            search.tell(trial.number, outcome(trial.sequence))
    go_on(search, 8)
    found = search.trials[1]
    assert (found.error, found.outcome, found.point, found.is_open) == (
        "TaskError: it blew up",
        None,
        None,
        False,
    )
    assert found not in best(search.trials)
    assert all(trial.outcome is not None for trial in search.trials[2:])


def test_the_best_are_those_that_none_dominates(tmp_path):
    search = make(tmp_path / "journal.log", SearchSettings(sampler="grid"))
    go_on(search, 21)
    # 3 tasks of one delta: the gain rises to delta 0.6 and falls again, parameters only rise
    assert [trial.sequence.steps[1].delta for trial in best(search.trials)] == [
        pytest.approx(0.05 * i) for i in range(13)
    ]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"settings": SearchSettings(seed=1)}, "search.seed = 0, found 1"),
        ({"settings": SearchSettings(sampler="random")}, "search.sampler"),
        ({"settings": SearchSettings(space=EVERYTHING)}, "search.space.deltas = 'shared', found 'each'"),
        ({"recipe": {**RECIPE, "settings": {"epochs": 2}}}, "settings.epochs = 1, found 2"),
        ({"recipe": {**RECIPE, "more": 1}}, "more = None"),
        ({"tasks": ("one", "two")}, "tasks"),
    ],
)
def test_a_search_of_other_settings_is_refused_and_is_as_it_was(tmp_path, changed, match):
    path = tmp_path / "journal.log"
    go_on(make(path), 3)
    before = path.read_bytes()
    with pytest.raises(RecipeChangedError, match=match):
        make(path, **changed)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["journal.log"]


def test_what_is_no_journal_is_refused_and_is_as_it_was(tmp_path):
    path = tmp_path / "journal.log"
    for data in (b"no journal\nat all\n", b'{"op_code": 99}\n{"a": 1}\n', b"[1]\n"):
        path.write_bytes(data)
        with pytest.raises(StoreDamagedError, match="no journal of a search"):
            make(path)
        with pytest.raises(StoreDamagedError, match="no journal of a search"):
            read(path)
        assert path.read_bytes() == data
    go_on(make(tmp_path / "whole.log"), 2)
    _, *rest = (tmp_path / "whole.log").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rest))
    for call in (lambda: make(path), lambda: read(path)):
        with pytest.raises(StoreDamagedError, match=r"lacks its beginning|no journal of a search"):
            call()
    assert path.read_bytes() == b"".join(rest)
    for torn in (b"", rest[0][:20]):  # of a search that was killed as it began
        path.write_bytes(torn)
        with pytest.raises(StoreDamagedError, match="never begun; start it again"):
            read(path)
        make(path)
        assert not read(path).trials
        path.unlink()
    with pytest.raises(StoreMissingError, match="found none"):
        read(tmp_path / "nothing.log")
    path.write_bytes(b"")
    with pytest.raises(StoreDamagedError):
        read(path)
    go_on(make(path), 2)  # nothing was lost: it can begin


def test_a_journal_tells_what_it_was_begun_with(tmp_path):
    path = tmp_path / "journal.log"
    settings = SearchSettings(space=EVERYTHING)
    make(path, settings)
    found = read(path)
    assert found.about == {"command": "by hand"}
    assert found.recipe["search"] == dataclasses.asdict(settings)
    assert found.trials == ()


def test_nothing_of_a_journal_is_a_pickle(tmp_path):
    path = tmp_path / "journal.log"
    go_on(make(path), 3)
    assert all(line.startswith(b"{") for line in path.read_bytes().splitlines())


def test_optuna_is_imported_where_it_is_used_and_nowhere_before():
    sources = Path(stolon.__file__).parent.rglob("*.py")
    assert not [
        path for path in sources if re.search(r"^(import|from) optuna", path.read_text(), re.MULTILINE)
    ]
