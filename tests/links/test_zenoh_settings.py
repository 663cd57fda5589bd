from pathlib import Path

import pytest

from stolon.errors import LinkError
from stolon.links.zenoh_settings import ZenohSettings, configuration

ME = "ab" * 32


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp/127.0.0.1:7447",
        "tcp/[::1]:7447",
        "tcp/[fe80::1%eth0]:7447",
        "tcp/agent-1.example.org:65535",
        "tcp/0.0.0.0:1",
    ],
)
def test_good_endpoints_are_taken(endpoint: str):
    ZenohSettings(listen=(endpoint,), connect=(endpoint,))


@pytest.mark.parametrize(
    "endpoint",
    ["", "7447", "127.0.0.1:7447", "tcp/127.0.0.1", "tcp/127.0.0.1:65536", "tcp/127.0.0.1:-1", "udp/127.0.0.1:7447",
     "tcp/127.0.0.1:7447#iface=eth0", "tcp/127.0.0.1:7447?rel=0", "tcp/a b:7447", "tcp/:7447", "tcp/127.0.0.1:7447\n",
     "http://127.0.0.1:7447", "tcp/127.0.0.1:٧٤٤٧"],
)  # fmt: skip
def test_endpoints_that_zenoh_would_take_or_misread_in_silence_are_refused(endpoint: str):
    for side in ("listen", "connect"):
        with pytest.raises(LinkError, match=r"expected an endpoint such as tcp/192.168.1.20:7447"):
            ZenohSettings(**{side: (endpoint,)})


def test_one_listens_at_any_free_port_but_connects_to_a_port():
    ZenohSettings(listen=("tcp/127.0.0.1:0",))
    with pytest.raises(LinkError, match="ports 1 to 65535"):
        ZenohSettings(connect=("tcp/127.0.0.1:0",))


@pytest.mark.parametrize("population", ["", "a/b", "*", "**", "a b", "x" * 65, "@", "ü", "a\n"])
def test_a_population_that_could_mean_another_key_is_refused(population: str):
    with pytest.raises(LinkError, match="population"):
        ZenohSettings(population=population)


def test_one_who_would_meet_nobody_is_told():
    with pytest.raises(LinkError, match="meets nobody"):
        ZenohSettings(listen=())
    ZenohSettings(listen=(), scout=True)


@pytest.mark.parametrize(
    "periods", [{"lease_s": 0.5}, {"lease_s": 4000}, {"retry_s": 0}, {"retry_s": float("nan")}]
)
def test_periods_have_bounds(periods: dict[str, float]):
    with pytest.raises(LinkError, match="lease_s is 1 to 3600 and retry_s"):
        ZenohSettings(**periods)


def test_nothing_is_found_or_shared_by_default():
    values = configuration(ZenohSettings(), ME, ("tcp/127.0.0.1:0",))
    assert values["listen/endpoints"] == ["tcp/127.0.0.1:0"]
    assert not values["scouting/multicast/enabled"]
    assert not values["scouting/gossip/enabled"]
    assert not values["transport/shared_memory/enabled"]
    assert not values["timestamping/enabled"]
    assert values["transport/link/protocols"] == ["tcp"]
    assert values["access_control"]["default_permission"] == "deny"
    assert configuration(ZenohSettings(scout=True), ME, ())["scouting/multicast/enabled"]


def test_tls_and_plain_endpoints_do_not_mix():
    with pytest.raises(LinkError, match="wants TLS, but no certificates are set"):
        ZenohSettings(listen=("tls/127.0.0.1:0",))
    with pytest.raises(LinkError, match="an open side door"):
        ZenohSettings(listen=("tcp/127.0.0.1:0",), tls_authority=Path("a"))
    with pytest.raises(LinkError, match="needs tls_authority"):
        ZenohSettings(listen=("tls/127.0.0.1:0",), tls_certificate=Path("a"), tls_key=Path("b"))
    with pytest.raises(LinkError, match="set both tls_certificate and tls_key"):
        ZenohSettings(listen=("tls/127.0.0.1:0",), tls_authority=Path("a"), tls_certificate=Path("b"))
