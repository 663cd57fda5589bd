import pytest

from stolon import settings
from stolon.errors import SettingError
from stolon.growth.config import BindAndGrowConfig
from stolon.masks.popup import MaskRule


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "3", None, True])
def test_what_is_no_finite_number_is_refused_by_name(value):
    for check in (settings.at_least, settings.above):
        with pytest.raises(SettingError, match="speed: expected a finite number"):
            check("speed", value, 0)
    with pytest.raises(SettingError, match="speed: expected a finite number"):
        settings.within("speed", value, 0, 1)


def test_flags_are_true_or_false():
    settings.flags(MaskRule(scaled=True))
    for value in ("no", 0, None):
        with pytest.raises(SettingError, match="scaled: expected True or False, found"):
            MaskRule(scaled=value)
        with pytest.raises(SettingError, match="as_released: expected True or False, found"):
            BindAndGrowConfig(as_released=value)


def test_bounds_are_as_named():
    settings.at_least("n", 1, 1)
    settings.within("n", 0, 0, 1)
    settings.whole("n", 2, 1)
    for call in (
        lambda: settings.at_least("n", 0, 1),
        lambda: settings.above("n", 1, 1),
        lambda: settings.within("n", 1.1, 0, 1),
        lambda: settings.whole("n", 1.5, 1),
        lambda: settings.whole("n", True, 0),
        lambda: settings.one_of("n", "c", ("a", "b")),
    ):
        with pytest.raises(SettingError, match="n: expected"):
            call()
