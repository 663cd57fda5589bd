"""What a Zenoh link is told: endpoints, population, TLS; and the configuration that Zenoh makes of it.

Everything is checked before Zenoh sees it, since Zenoh itself takes an impossible endpoint to connect to
without a word and then simply meets nobody.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stolon.errors import LinkError
from stolon.links.zenoh_tls import check_certificates
from stolon.sharing.limits import KIB, MAX_HINT, MAX_MESSAGE, MAX_PEERS

ENDPOINT: Final = re.compile(
    r"(?P<protocol>tcp|tls)/(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})"
)
POPULATION: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_REQUEST: Final = 1 * KIB
"""A request, as opposed to its reply: requests are a few digests (65 bytes today) and never carry knowledge."""
FLOOD: Final = 100.0
"""Hints per second that may come by one connection; those that follow too soon are dropped."""


@dataclass(frozen=True)
class ZenohSettings:
    """How agents reach each other.

    Attributes:
        listen: endpoints to be reached at, ``tcp/HOST:PORT`` or ``tls/HOST:PORT``; port 0 takes a free one, host
            ``0.0.0.0`` or ``[::]`` all interfaces. Empty for an agent that only connects.
        connect: endpoints of other agents. They need not be up yet, and are tried again for ever. An agent speaks
            with those it is connected to, in either direction; what it learns from one it passes on to the others.
        scout: find agents on the local network by multicast, too.
        population: agents of different populations never hear each other, even where they are connected; 1 to 64 of
            letters, digits and ``._-``.
        tls_authority: PEM file of the certificate authority that signs the agents' certificates.
        tls_certificate: PEM file of this agent's own certificate, signed by the authority.
        tls_key: PEM file of its private key, without a password.
        tls_mutual: whom we let in must show a certificate of the authority, too. False lets anybody in that trusts
            ours: contents are then hidden from third parties, but strangers can speak to us.
        lease_s: seconds after which a silent connection is given up: how soon a frozen peer is noticed.
        retry_s: seconds between attempts to connect; they grow to four times this.

    Raises:
        LinkError: an endpoint, the population, a period or the TLS files are not as they should be.
    """

    listen: tuple[str, ...] = ("tcp/127.0.0.1:0",)
    connect: tuple[str, ...] = ()
    scout: bool = False
    population: str = "default"
    tls_authority: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_mutual: bool = True
    lease_s: float = 10.0
    retry_s: float = 0.5

    def __post_init__(self) -> None:
        if not POPULATION.fullmatch(self.population):
            raise LinkError(
                f"a population's name is 1 to 64 of letters, digits and '._-'; found {self.population!r}: rename it"
            )
        if not 1 <= self.lease_s <= 3600 or not 0.01 <= self.retry_s <= 60:
            raise LinkError(
                f"lease_s is 1 to 3600 and retry_s 0.01 to 60 seconds; found {self.lease_s} and {self.retry_s}"
            )
        if not (self.listen or self.connect or self.scout):
            raise LinkError(
                "an agent that listens nowhere and connects nowhere meets nobody: give it an endpoint"
            )
        for endpoint in self.listen:
            _check_endpoint(endpoint, least_port=0)
        for endpoint in self.connect:
            _check_endpoint(endpoint, least_port=1)
        self._check_tls()

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is set up; then it is the only protocol."""
        return any(path is not None for path in (self.tls_authority, self.tls_certificate, self.tls_key))

    def _check_tls(self) -> None:
        endpoints = (*self.listen, *self.connect)
        if not self.is_encrypted:
            if wrong := [endpoint for endpoint in endpoints if endpoint.startswith("tls/")]:
                raise LinkError(
                    f"{wrong[0]} wants TLS, but no certificates are set: give tls_authority, tls_certificate, tls_key"
                )
            return
        if wrong := [endpoint for endpoint in endpoints if not endpoint.startswith("tls/")]:
            raise LinkError(
                f"with TLS set up every endpoint is tls/HOST:PORT; found {wrong[0]}, an open side door"
            )
        if self.tls_authority is None:
            raise LinkError(
                "TLS needs tls_authority: the PEM file of the authority that signed the certificates"
            )
        if (self.listen or self.tls_mutual) and (self.tls_certificate is None or self.tls_key is None):
            raise LinkError("to listen by TLS, and for mutual TLS, set both tls_certificate and tls_key")
        check_certificates(self.tls_authority, self.tls_certificate, self.tls_key)


def _check_endpoint(endpoint: str, *, least_port: int) -> None:
    match = ENDPOINT.fullmatch(endpoint)
    if match is None or not least_port <= int(match["port"]) <= 65535:
        raise LinkError(
            f"expected an endpoint such as tcp/192.168.1.20:7447 or tls/agent.example:7447 "
            f"(ports {least_port} to 65535); found {endpoint!r}"
        )


@dataclass(frozen=True)
class Keys:
    """Where in Zenoh's space of keys a population speaks; ``me`` is the agent's own public key."""

    population: str
    me: str

    def hint(self, peer: str) -> str:
        """Of a peer's hints; ``*`` for everybody's."""
        return f"stolon/{self.population}/hint/{peer}"

    def ask(self, peer: str) -> str:
        """Of requests to a peer, so that only the peer meant is asked and each reply travels once."""
        return f"stolon/{self.population}/ask/{peer}"

    def alive(self, peer: str) -> str:
        """Of a peer's presence."""
        return f"stolon/{self.population}/alive/{peer}"


def configuration(settings: ZenohSettings, me: str, listen: tuple[str, ...]) -> dict[str, Any]:
    """What Zenoh is configured with, by key: only what differs from its defaults, each with its reason.

    Args:
        settings: the link's.
        me: our public key.
        listen: where to listen, with the ports of an earlier opening in place of 0.
    """
    keys = Keys(settings.population, me)
    lease_ms = round(settings.lease_s * 1000)
    retry_ms = max(1, round(settings.retry_s * 1000))
    encrypted = settings.is_encrypted
    values: dict[str, Any] = {
        "mode": "peer",
        # Zenoh's default is all interfaces.
        "listen/endpoints": list(listen),
        "listen/exit_on_failure": True,
        "connect/endpoints": list(settings.connect),
        # Peers come and go: never give up, and do not wait for them when opening.
        "connect/exit_on_failure": False,
        "connect/timeout_ms": -1,
        "connect/retry": {
            "period_init_ms": retry_ms,
            "period_max_ms": 4 * retry_ms,
            "period_increase_factor": 2,
        },
        "open/return_conditions": {"connect_scouted": False, "declares": False},
        "scouting/multicast/enabled": settings.scout,
        # Gossip would connect us to strangers that a peer happens to know.
        "scouting/gossip/enabled": False,
        # No clock takes part in any decision.
        "timestamping/enabled": False,
        "transport/shared_memory/enabled": False,
        "transport/unicast/max_sessions": MAX_PEERS,
        # Closing waits for connections that are just being opened, so this bounds how long closing can take.
        "transport/unicast/open_timeout": 3000,
        "transport/unicast/accept_timeout": 3000,
        "transport/link/protocols": ["tls"] if encrypted else ["tcp"],
        "transport/link/rx/max_message_size": MAX_MESSAGE + 4 * KIB,
        "transport/link/tx/lease": lease_ms,
        "transport/link/tx/keep_alive": 4,
        # The listening address is read from here; access control keeps it from everybody but ourselves.
        "adminspace/enabled": True,
        "low_pass_filter": [
            _cap("hints", ["put"], keys.hint("*"), MAX_HINT),
            _cap("requests", ["query"], keys.ask("*"), MAX_REQUEST),
        ],
        # A flood of hints ends here, per connection, before it costs us more than reading its bytes.
        "downsampling": [
            {
                "id": "hints",
                "flows": ["ingress"],
                "messages": ["put"],
                "rules": [{"key_expr": keys.hint("*"), "freq": FLOOD}],
            }
        ],
        "access_control": _access_control(keys),
    }
    if encrypted:
        values |= _tls(settings)
    return values


def _cap(name: str, messages: list[str], key: str, most: int) -> dict[str, Any]:
    return {"id": name, "flows": ["ingress"], "messages": messages, "key_exprs": [key], "size_limit": most}


def _tls(settings: ZenohSettings) -> dict[str, Any]:
    tls: dict[str, Any] = {
        "root_ca_certificate": str(settings.tls_authority),
        "enable_mtls": settings.tls_mutual,
        "verify_name_on_connect": True,
        # A connection made with a certificate that has expired since is ended.
        "close_link_on_expiration": True,
    }
    if settings.tls_certificate is not None and settings.tls_key is not None:
        for side in ("listen", "connect"):
            tls[f"{side}_certificate"] = str(settings.tls_certificate)
            tls[f"{side}_private_key"] = str(settings.tls_key)
    return {f"transport/link/tls/{key}": value for key, value in tls.items()}


def _access_control(keys: Keys) -> dict[str, Any]:
    """Nothing is allowed but our own keys, each in the direction it is meant for.

    Each agent enforces this for itself. A subject without attributes is everybody (an empty list of
    interfaces would be nobody).
    """
    everyone, mine = "*", keys.me
    rows: list[tuple[str, list[str], str]] = [
        ("ingress", ["put", "declare_subscriber"], keys.hint(everyone)),
        ("egress", ["put"], keys.hint(mine)),
        ("egress", ["declare_subscriber"], keys.hint(everyone)),
        ("ingress", ["query"], keys.ask(mine)),
        ("ingress", ["reply", "declare_queryable"], keys.ask(everyone)),
        ("egress", ["query"], keys.ask(everyone)),
        ("egress", ["reply", "declare_queryable"], keys.ask(mine)),
        ("ingress", ["liveliness_token", "declare_liveliness_subscriber"], keys.alive(everyone)),
        ("egress", ["liveliness_token"], keys.alive(mine)),
        ("egress", ["declare_liveliness_subscriber"], keys.alive(everyone)),
    ]
    rules = [
        {
            "id": f"rule{number}",
            "permission": "allow",
            "flows": [flow],
            "messages": messages,
            "key_exprs": [key],
        }
        for number, (flow, messages, key) in enumerate(rows)
    ]
    return {
        "enabled": True,
        "default_permission": "deny",
        "rules": rules,
        "subjects": [{"id": "everyone"}],
        "policies": [{"rules": [rule["id"] for rule in rules], "subjects": ["everyone"]}],
    }


def as_json5(values: dict[str, Any]) -> list[tuple[str, str]]:
    """The configuration as pairs for ``zenoh.Config.insert_json5``."""
    return [(key, json.dumps(value)) for key, value in values.items()]
