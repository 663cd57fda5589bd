import re

import pytest

from stolon.errors import ModuleRefusedError
from stolon.sharing.codes import Code, Refused


@pytest.mark.parametrize("code", list(Code))
def test_every_code_is_a_stable_word_with_a_sentence_for_people(code):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code.value)
    assert code.value == code.name.lower().replace("_", "-") == str(code)
    assert re.fullmatch(r"[A-Z].*\.", code.sentence)
    assert Code(code.value) is code


def test_no_two_codes_say_the_same():
    assert len({code.sentence for code in Code}) == len(Code)


def test_what_honest_peers_may_send_does_not_count_against_them():
    ignored = {code.value for code in Code if not code.is_reject}
    assert ignored == {
        "unknown-author",  # they trust others than we do
        "revoked-key",  # they have not heard of it yet
        "revoked",
        "unsupported",  # they run a newer stolon
        "other-backbone",
        "over-quota",
        "missing-blob",  # theirs was damaged, and set aside
        "old-trust",
        "disk-full",  # ours
    }


def test_a_refusal_becomes_an_error_that_says_why():
    with pytest.raises(ModuleRefusedError, match=r"^wrong-hash: expected 12, found 34$") as caught:
        raise Refused(Code.WRONG_HASH, "expected 12, found 34").to_error()
    assert caught.value.code == "wrong-hash"
    assert type(caught.value.code) is str
