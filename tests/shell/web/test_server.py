import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.shell.web.conftest import picture
from tests.shell.web.fakes import FakeAgent

from stolon.errors import SettingError
from stolon.shell.web.app import make_app
from stolon.shell.web.limits import Limits
from stolon.shell.web.server import Server, serve

SLOW_BODY = (
    b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
)


@pytest.fixture
def server(agent, decoder) -> Iterator[Server]:
    limits = Limits(header_s=0.5, body_s=1.0, answer_s=1.5)
    with serve(make_app(agent, decoder, limits=limits), limits=limits) as made:
        yield made


def get(server: Server, path: str = "/") -> int:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def connect(server: Server, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection((server.host, server.port), timeout=60)
    made.sendall(sent)
    return made


def rest(connection: socket.socket) -> bytes:
    """What is still said until the other end closes."""
    said = b""
    with connection:
        try:
            while part := connection.recv(65536):
                said += part
        except ConnectionError:
            pass
    return said


def test_a_free_port_is_found_told_served_and_given_back(agent, decoder):
    with serve(make_app(agent, decoder)) as server:
        assert server.host == "127.0.0.1"
        assert server.port > 0
        assert server.address == f"http://127.0.0.1:{server.port}/"
        assert get(server) == 200
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        get(server)
    assert not [thread for thread in threading.enumerate() if thread.name == "stolon page"]
    server.stop()
    with serve(make_app(agent, decoder), "localhost", port) as again:
        assert again.port == port
        with pytest.raises(SettingError, match=f"expected a free port at 127.0.0.1, found {port}"):
            serve(make_app(agent, decoder), "127.0.0.1", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::"])
def test_addresses_that_others_reach_are_refused_unless_allowed(agent, decoder, host):
    with pytest.raises(SettingError, match="expected an address of this machine alone"):
        serve(make_app(agent, decoder), host)


def test_all_addresses_may_be_served_on_purpose(agent, decoder):
    with serve(make_app(agent, decoder), "0.0.0.0", anywhere=True) as server:
        server.host = "127.0.0.1"
        assert get(server) == 200


@pytest.mark.parametrize("host", ["", "example.org", "127.0.0.1:80", "localhost.example.org"])
def test_only_addresses_are_bound_to(agent, decoder, host):
    with pytest.raises(SettingError, match="expected an IP address"):
        serve(make_app(agent, decoder), host)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_refused(agent, decoder, port):
    with pytest.raises(SettingError, match="expected a port from 0 to 65535"):
        serve(make_app(agent, decoder), port=port)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", SLOW_BODY], ids=["silent", "slow headers", "slow body"])
def test_fifty_that_hold_connections_shut_nobody_out(agent, decoder, sent):
    limits = Limits(header_s=200, body_s=200, answer_s=300)
    with serve(make_app(agent, decoder, limits=limits), limits=limits) as server, ExitStack() as crowd:
        for _ in range(50):
            crowd.enter_context(connect(server, sent))
        before = time.monotonic()
        assert get(server) == 200
        assert time.monotonic() - before < 60  # they are put out after 200
        assert len(server._connections._open) <= 32


def test_who_sends_no_headers_in_time_is_put_out(server):
    before = time.monotonic()
    assert rest(connect(server, b"GET / HTTP/1.1\r\nHost: 127")) == b""
    assert 0.3 < time.monotonic() - before < 50


def test_headers_that_trickle_in_are_no_way_to_stay(server):
    connection = connect(server)
    before = time.monotonic()
    with pytest.raises(ConnectionError):  # noqa: PT012 - whichever call notices
        while time.monotonic() - before < 50:
            connection.sendall(b"x")
            time.sleep(0.05)
    connection.close()


def test_a_body_that_does_not_come_in_time_is_told_so(server):
    assert b" 408 " in rest(connect(server, SLOW_BODY)).splitlines()[0]


def upload() -> bytes:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="picture"; filename=""\r\n\r\n'
        + picture()
        + b"\r\n--b--\r\n"
    )
    return SLOW_BODY[:-5].replace(b"100000", str(len(body)).encode()) + body


def test_who_takes_too_long_to_be_answered_is_put_out(server, agent):
    agent.gate = threading.Event()
    connection = connect(server, upload())
    before = time.monotonic()
    assert rest(connection) == b""
    assert 1 < time.monotonic() - before < 50
    agent.gate.set()
    assert get(server) == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 9_000 + b"\r\n",
        b"GET /" + b"x" * 400_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=[
        "tls",
        "no host",
        "two hosts",
        "long header",
        "many headers",
        "long path",
        "1.0",
        "minus one",
        "two lengths",
    ],
)
def test_requests_that_break_the_protocol_are_refused_and_closed(server, sent):
    first = rest(connect(server, sent)).split(b"\r\n")[0]
    assert first.split(b" ")[1:2] in ([b"400"], [b"411"], [b"413"], [b"431"])


def test_an_upload_that_is_refused_by_its_length_is_not_read(server):
    head = SLOW_BODY.replace(b"100000", b"9" * 18)
    said = rest(connect(server, head))
    assert b" 413 " in said.splitlines()[0]
    assert b"connection: close" in said.lower()


def test_stopping_does_not_wait_for_those_who_hold_connections(agent: FakeAgent, decoder):
    server = serve(make_app(agent, decoder))
    crowd = [connect(server), connect(server, b"GET"), connect(server, SLOW_BODY)]
    assert get(server) == 200
    before = time.monotonic()
    server.stop()
    assert time.monotonic() - before < 9  # the slow upload alone may take 10
    assert not [thread for thread in threading.enumerate() if thread.name == "stolon page"]
    for one in crowd:
        one.close()


def test_who_waits_for_an_answer_when_the_agent_stops_is_told_so(agent: FakeAgent, decoder, caplog):
    agent.gate = threading.Event()
    server = serve(make_app(agent, decoder))
    connection = connect(server, upload())
    while not agent.asked:
        time.sleep(0.01)
    release = threading.Timer(2.0, agent.gate.set)  # threads cannot be cancelled
    release.start()
    server.stop()
    assert b" 503 " in rest(connection).splitlines()[0]
    assert "Traceback" not in caplog.text
    release.join()
