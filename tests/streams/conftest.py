"""A web site of one's own, in place of those that sets are fetched from."""

import functools
import http.server
import threading

import pytest


@pytest.fixture
def site(tmp_path):
    """A web site of one's own, with the folder that it shows."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "site", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def offered():
    import stolon._torchvision  # noqa: F401 - makes the next import possible beside a CPU build

    # isort: split
    from torchvision import datasets

    return datasets
