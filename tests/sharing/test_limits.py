from stolon.sharing import limits


def test_the_limits_are_those_of_the_manual():
    kib, mib, gib = 2**10, 2**20, 2**30
    assert {name: value for name, value in vars(limits).items() if name.isupper()} == {
        "KIB": kib,
        "MIB": mib,
        "GIB": gib,
        "MAX_ENVELOPE": 96 * kib,
        "MAX_MANIFEST": 64 * kib,
        "MAX_SIGNATURES": 8,
        "MAX_ROOTS": 8,
        "MAX_NAME": 64,
        "MAX_BLOB": 16 * mib,
        "MAX_BLOB_HEADER": 64 * kib,
        "MAX_TENSORS": 64,
        "MAX_CLASSES": 1000,
        "MAX_ANCHORS_PER_CLASS": 4,
        "MAX_MODULES_PER_AUTHOR": 2000,
        "MAX_BYTES_PER_AUTHOR": 1 * gib,
        "MAX_VERSIONS": 4,
        "MAX_BANK": 8 * gib,
        "RESERVE": 64 * mib,
        "MAX_OFFERS": 1000,
        "MAX_MESSAGE": 4 * mib,
        "MAX_HINT": 1 * kib,
        "CHUNK": 1 * mib,
        "MAX_PEERS": 64,
        "HINTS_PER_SECOND": 2,
        "HINT_BURST": 20,
        "PULLS_PER_PEER": 2,
        "PULLS": 4,
    }


def test_the_largest_payload_with_the_most_signatures_fits_into_an_envelope():
    base64 = -(-limits.MAX_MANIFEST // 3) * 4
    signature = len('{"keyid":"","sig":""},') + 64 + 88
    assert base64 + limits.MAX_SIGNATURES * signature + 200 <= limits.MAX_ENVELOPE


def test_as_many_roots_as_there_may_be_can_sign_one_trust_list():
    assert limits.MAX_ROOTS <= limits.MAX_SIGNATURES


def test_an_envelope_and_a_piece_of_a_blob_fit_into_a_message():
    assert max(limits.MAX_ENVELOPE, limits.CHUNK) < limits.MAX_MESSAGE
