import dataclasses

import pytest

from stolon.errors import SettingError
from stolon.shell.web.limits import Limits


def test_the_limits_are_those_of_the_design():
    limits = Limits()
    assert limits.body == 8 * 2**20
    assert (limits.body_s, limits.connections, limits.decodes, limits.queue) == (10, 32, 4, 64)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
def test_none_may_be_zero(name):
    with pytest.raises(SettingError, match=f"{name}: expected more than 0"):
        Limits(**{name: 0})
