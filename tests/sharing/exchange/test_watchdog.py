from stolon.sharing.exchange.ports import ExchangeSettings, GiveUp, Reopen
from stolon.sharing.exchange.watchdog import Watchdog

SETTINGS = ExchangeSettings(silent_s=10.0, reopenings=3)


def silent(dog: Watchdog, begin: float, until: float, *, visible: bool = True, answered: bool = True):
    """What happens, and when, if every second a request stays unanswered."""
    found = []
    for second in range(int(begin), int(until)):
        dog.unanswered()
        alarm = dog.check(second, are_visible=visible, have_answered=answered)
        if alarm is not None:
            found.append((second, type(alarm)))
    return found


def test_silence_opens_the_link_anew_after_longer_and_longer_and_then_ends():
    alarms = silent(Watchdog(SETTINGS), 0, 200)
    assert alarms == [(10, Reopen), (30, Reopen), (70, Reopen), (150, GiveUp)]


def test_one_reply_begins_it_anew():
    dog = Watchdog(SETTINGS)
    assert silent(dog, 0, 40) == [(10, Reopen), (30, Reopen)]
    dog.answered(40.0)
    assert silent(dog, 40, 60) == [(50, Reopen)]


def test_where_nobody_is_visible_silence_is_no_wonder():
    dog = Watchdog(SETTINGS)
    assert silent(dog, 0, 100, visible=False) == []
    assert dog.due() == float("inf")
    assert silent(dog, 100, 109) == []


def test_peers_that_never_answered_end_nothing():
    alarms = silent(Watchdog(SETTINGS), 0, 1000, answered=False)
    assert {kind for _, kind in alarms} == {Reopen}
    assert len(alarms) == 3 + (1000 - 70) // 80


def test_without_questions_silence_means_nothing():
    dog = Watchdog(SETTINGS)
    for second in range(100):
        assert dog.check(second, are_visible=True, have_answered=True) is None
