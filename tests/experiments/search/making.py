"""A search so small that it takes seconds."""

from stolon.experiments.config import StreamSpec
from stolon.experiments.search.plan import SearchPlan
from stolon.experiments.search.searching import JOURNAL
from stolon.growth.search import SearchSettings, read
from stolon.growth.search_space import SearchSpace

STREAM = StreamSpec("digits-split", tasks=3)
SETTINGS = {"epochs": 1, "learning_rate": 0.1, "batch_size": 16}
SEARCH = SearchSettings(population=3, space=SearchSpace(step=0.25))
PLAN = SearchPlan(STREAM, "mlp-8-8", SETTINGS, SEARCH)


def trials(folder):
    """What was tried in a search's folder."""
    return read(folder / JOURNAL).trials
