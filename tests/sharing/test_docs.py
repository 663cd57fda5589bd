"""What the page on sharing says is what the code does."""

import re
from pathlib import Path

from stolon.sharing.codes import Code

PAGE = (Path(__file__).parents[2] / "docs" / "methods" / "sharing.md").read_text()


def test_the_table_of_codes_is_the_enumeration():
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \| (yes|no) \|$", PAGE, re.MULTILINE)
    assert rows == [(code.value, code.sentence, "yes" if code.is_reject else "no") for code in Code]
