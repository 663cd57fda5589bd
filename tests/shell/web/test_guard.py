import pytest
from fastapi.testclient import TestClient
from tests.shell.web.conftest import picture

from stolon.shell.web.app import make_app
from stolon.shell.web.guard import ANY_ADDRESS

OK = {"host": "127.0.0.1:8000"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:8000", "[::1]"]
)
def test_our_own_names_are_answered_on_any_port(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.2", "", ":80",
        "user@127.0.0.1", "127.0.0.1/x", "127.0.0.1:x", "127.0.0.1?", "127.0.0.1#", "[::1", "[::2]", "0.0.0.0",
        "2130706433", "127.0.0.1, evil.example",
    ],
)  # fmt: skip
def test_a_foreign_name_is_refused_before_anything_is_told(client, host):
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 400
    assert "heron" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "null", "", "http://127.0.0.1:8001", "http://127.0.0.1", "https://127.0.0.1:8000.evil.example",
        "http://localhost:8000", "file://", "127.0.0.1:8000", "ftp://127.0.0.1:8000", "http://127.0.0.1:8000/",
    ],
)  # fmt: skip
def test_a_foreign_origin_is_refused(client, ask, agent, origin):
    assert ask(picture(), Origin=origin).status_code == 403
    assert client.get("/", headers={**OK, "origin": origin}).status_code == 403
    assert agent.asked == 0


def test_our_own_origin_is_answered(client, ask):
    assert ask(picture(), Origin="http://127.0.0.1:8000").status_code == 200
    assert ask(picture(), Origin="https://127.0.0.1:8000").status_code == 200  # behind a proxy with TLS
    assert ask(picture()).status_code == 200  # curl sends none


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)]
)
def test_what_the_browser_says_about_where_a_form_comes_from_counts(client, ask, site, status):
    assert ask(picture(), **{"Sec-Fetch-Site": site}).status_code == status
    assert client.get("/", headers={"sec-fetch-site": site}).status_code == 200  # a link may lead here


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_other_methods_are_refused(client, method):
    answer = client.request(method, "/")
    assert answer.status_code == 405
    assert answer.headers["connection"] == "close"


def test_only_an_upload_has_a_body_and_its_length_is_known(client):
    assert client.request("GET", "/", content=b"x").status_code == 400
    assert client.request("GET", "/", headers={"transfer-encoding": "chunked"}).status_code == 400
    for length in ("", "-1", "1.0", "1e3", "x", "9" * 19, "9" * 5000, "\u0661"):
        assert client.post("/classify", headers={"content-length": length.encode()}).status_code == 411
    chunked = client.post("/classify", content=iter([b"x"]))
    assert chunked.status_code == 411
    assert chunked.headers["connection"] == "close"


def test_every_answer_tells_browsers_what_to_refuse(client, ask):
    answers = [
        client.get("/"),
        client.get("/static/page.css"),
        client.get("/nothing"),
        ask(b"x"),
        client.head("/"),
    ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_websockets_are_closed(client):
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/"):
        pass


def test_headers_are_bounded_all_together(client):
    assert client.get("/", headers={f"x-{i}": "y" * 1000 for i in range(15)}).status_code == 200
    assert client.get("/", headers={f"x-{i}": "y" * 1000 for i in range(17)}).status_code == 431


def test_where_any_address_is_allowed_names_are_refused_all_the_same(agent, decoder):
    client = TestClient(make_app(agent, decoder, allowed_hosts=["heron", ANY_ADDRESS]))
    for host in ("heron", "heron:80", "192.0.2.7:8080", "[2001:db8::1]:80", "127.0.0.1"):
        assert client.get("/", headers={"host": host}).status_code == 200
    for host in (
        "any address",
        "evil.example",
        "192.0.2.7.evil.example",
        "3221226000",
        "[evil]",
        "[",
        "1.2.3",
        "0x7f.1",
    ):
        assert client.get("/", headers={"host": host}).status_code == 400
