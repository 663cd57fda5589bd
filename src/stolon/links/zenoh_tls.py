"""Checks certificates before Zenoh uses them: Zenoh refuses wrong ones in silence, and meets nobody."""

import ssl
from pathlib import Path

from stolon.errors import LinkError


def check_certificates(authority: Path, certificate: Path | None, key: Path | None) -> None:
    """Make sure that the files are there, fit together and would be accepted by a peer that holds the same.

    We hold a whole handshake with ourselves, in memory and in both roles. So a certificate that has expired,
    is not the authority's, or may not be used for both roles is named here.

    Args:
        authority: PEM file of the certificate authority.
        certificate: PEM file of our own certificate; None where we have none.
        key: PEM file of its private key.

    Raises:
        LinkError: a file is missing, is no PEM of that kind, or does not fit the others; says which.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # peers check the name by which they reach us, which we do not know
    try:
        for context in (server, client):
            context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise LinkError(
            f"tls_authority {authority} cannot be used ({_why(error)}): it is a PEM file of certificates"
        ) from error
    if certificate is None or key is None:
        return
    try:
        for context in (server, client):
            context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise LinkError(
            f"tls_certificate {certificate} and tls_key {key} cannot be used together ({_why(error)}): both are PEM "
            "files, the key is the certificate's own and has no password"
        ) from error
    server.verify_mode = ssl.CERT_REQUIRED
    try:
        _shake_hands(server, client)
    except ssl.SSLError as error:
        raise LinkError(
            f"peers would refuse tls_certificate {certificate} ({_why(error)}): have {authority} sign one that is "
            "valid now and may be used both by servers and by clients"
        ) from error


def _no_password() -> str:
    raise ValueError("the key has a password")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error) or "not readable"


def _shake_hands(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server)
    for _ in range(4):  # TLS 1.3 needs two turns, TLS 1.2 three
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
