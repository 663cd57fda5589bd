from pathlib import Path

import pytest
from tests.links.certificates import Authority, Certified
from tests.links.ears import A, B, C, Ears, connected, listening, until

from stolon.errors import LinkError
from stolon.links.zenoh_settings import ZenohSettings
from stolon.links.zenoh_tls import check_certificates


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(authority: Authority, files: Certified | None, *, mutual: bool = True) -> dict[str, object]:
    return {
        "listen": ("tls/127.0.0.1:0",) if files else (),
        "tls_authority": authority.file,
        "tls_certificate": files and files.certificate,
        "tls_key": files and files.key,
        "tls_mutual": mutual,
    }


def test_agents_with_certificates_of_one_authority_meet(authority: Authority):
    with (
        listening(A, **tls(authority, authority.sign("a"))) as a,
        connected(B, a, **tls(authority, authority.sign("b"))) as b,
    ):
        assert a.link.endpoints[0].startswith("tls/127.0.0.1:")
        assert until(lambda: a.sees(B) and b.sees(A))
        assert b.ask(A, b"?") == b"echo ?"


def test_who_has_no_certificate_of_the_authority_is_not_let_in(authority: Authority, tmp_path: Path):
    other = Authority(tmp_path, "other")
    with listening(A, **tls(authority, authority.sign("a"))) as a:
        # Both trust our authority where that is their choice; neither can show a certificate of it.
        nobody = tls(authority, None, mutual=False)
        foreign = tls(other, other.sign("b"))
        plain = {"connect": (a.link.endpoints[0].replace("tls/", "tcp/"),)}
        with (
            connected(B, a, **nobody) as b,
            connected(C, a, **foreign) as c,
            listening("d" * 64, **plain) as d,
        ):
            with connected("e" * 64, a, **tls(authority, authority.sign("e"))) as e:
                assert until(lambda: a.sees(e.me) and e.sees(A))
            for outsider in (b, c, d):
                outsider.link.publish(b"let me in")
                assert outsider.ask(A, b"?", timeout_s=0.3) is None
            assert [peer for peer, _ in a.peers if peer != e.me] == []
            assert (a.hints, a.asked) == ([], [])


def test_one_who_trusts_another_authority_does_not_speak_to_us(authority: Authority, tmp_path: Path):
    # The other way round: the listener is the foreign one.
    other = Authority(tmp_path, "other")
    with (
        listening(A, **tls(other, other.sign("a"), mutual=False)) as foreign,
        connected(B, foreign, **tls(authority, authority.sign("b"))) as b,
    ):
        with connected("e" * 64, foreign, **tls(other, other.sign("e"))) as e:
            assert until(lambda: foreign.sees(e.me))  # as long as that took, it was time enough
        assert b.ask(A, b"?", timeout_s=1.0) is None
        assert (b.peers, foreign.sees(B)) == ([], False)


def test_without_mutual_tls_clients_need_no_certificate(authority: Authority):
    with (
        listening(A, **tls(authority, authority.sign("a"), mutual=False)) as a,
        connected(B, a, **tls(authority, None, mutual=False)) as b,
    ):
        assert until(lambda: a.sees(B) and b.sees(A))
        assert b.ask(A, b"?") == b"echo ?"


def test_wrong_files_are_named_before_anything_is_opened(authority: Authority, tmp_path: Path):
    good = authority.sign("a")
    other = Authority(tmp_path, "other")
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    missing = tmp_path / "missing.pem"
    with pytest.raises(LinkError, match=r"tls_authority .*missing.pem cannot be used \(No such file"):
        check_certificates(missing, good.certificate, good.key)
    with pytest.raises(LinkError, match=r"tls_authority .*empty.pem cannot be used"):
        check_certificates(empty, good.certificate, good.key)
    with pytest.raises(LinkError, match=r"missing.pem cannot be used together \(No such file"):
        check_certificates(authority.file, good.certificate, missing)
    with pytest.raises(LinkError, match="the key is the certificate's own"):
        check_certificates(authority.file, good.certificate, authority.sign("b").key)
    with pytest.raises(LinkError, match="the key has a password"):
        check_certificates(authority.file, *paths(authority.sign("c", password=b"secret")))
    with pytest.raises(LinkError, match=r"peers would refuse .*(unable to get local issuer|self.signed)"):
        check_certificates(authority.file, *paths(other.sign("a")))
    with pytest.raises(LinkError, match=r"peers would refuse .*certificate has expired"):
        check_certificates(authority.file, *paths(authority.sign("old", days=-1)))
    check_certificates(authority.file, good.certificate, good.key)
    with pytest.raises(LinkError, match="certificate has expired"):
        ZenohSettings(**tls(authority, authority.sign("old", days=-1)))  # type: ignore[arg-type]


def paths(files: Certified) -> tuple[Path, Path]:
    return files.certificate, files.key


def test_an_expired_certificate_is_not_let_in_either(authority: Authority, monkeypatch: pytest.MonkeyPatch):
    # Whoever does not check their own certificate is stopped by their peers.
    expired = authority.sign("old", days=-1)
    with listening(A, **tls(authority, authority.sign("a"))) as a, monkeypatch.context() as unchecked:
        unchecked.setattr("stolon.links.zenoh_settings.check_certificates", lambda *_: None)
        settings = tls(authority, expired) | {"listen": (), "connect": a.link.endpoints}
        late = Ears(B, ZenohSettings(**settings)).open()  # type: ignore[arg-type]
        with connected(C, a, **tls(authority, authority.sign("c"))):
            assert until(lambda: a.sees(C))
        assert late.ask(A, b"?", timeout_s=1.0) is None
        assert (late.peers, a.sees(B)) == ([], False)
        late.link.close()
