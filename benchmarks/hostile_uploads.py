"""Hundreds of hostile uploads at the agent's page, with ordinary visitors meanwhile.

    python benchmarks/hostile_uploads.py

The page is served by a process of its own, by a made-up agent that names a picture's colour, so that right answers
are known. Promise (reliability.md T17): every upload is refused or rightly answered within 2 s; the server grows by
less than 64 MB and no decoding process takes more than 512 MB; ordinary requests are served within 1 s meanwhile;
no name that a peer chose runs as a script (needs Debian's Chromium).

The corpus is made here: bombs, cut and flipped files, polyglots, every format that Pillow writes, endless and slow
bodies, foreign hosts and origins, broken forms and headers. Writes benchmarks/results/hostile_uploads.json.
"""

import argparse
import dataclasses
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import hostile_files, hostile_requests
from benchmarks.hostile_requests import HOST, Case, form, picture

UPLOAD_S, NORMAL_S, SERVER_MB, WORKER_MB = 2.0, 1.0, 64, 512
CHROMIUM = Path("/usr/bin/chromium")
EVIL = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="be the server; for this script alone")
    if parser.parse_args().serve:
        serve_until_stopped()
        return
    from results import write

    figures = run(cases(), slow=50, flood=64)
    write("hostile_uploads", figures)
    print({key: value for key, value in figures.items() if key != "answers"})
    sys.exit(bool(figures["failures"] or not figures["promises kept"]))


def cases() -> list[Case]:
    """All of them, in a fixed order."""
    return [
        *hostile_files.cases(),
        *hostile_requests.names(),
        *hostile_requests.forms(),
        *hostile_requests.protocol(),
    ]


def short() -> Iterator[Case]:
    """About thirty of all groups, none of which takes long."""
    for _, group in itertools.groupby(cases(), lambda case: case.group):
        members = [case for case in group if not case.heavy]
        yield from members[:: max(1, len(members) // 3)][:3]


def run(corpus: list[Case], *, slow: int, flood: int) -> dict:
    """Everything against one server; the figures."""
    with Bench() as bench:
        rows = [bench.send(case) for case in corpus]
        waves = [bench.slow(slow, sent) for sent in ("nothing", "half a header", "half a body")]
        refused, answered = bench.flood(flood)
        scripts = bench.scripts()
        figures = bench.figures()
    failures = [row for row in rows if row["failure"]]
    failures += [{"name": f"slow: {w['sent']}", "failure": "held"} for w in waves if not w["let go"]]
    kept = {
        "slowest upload s": figures["slowest upload s"] <= UPLOAD_S,
        "slowest ordinary request s": figures["slowest ordinary request s"] <= NORMAL_S,
        "server grew by MB": figures["server grew by MB"] < SERVER_MB,
        "largest decoder MB": figures["largest decoder MB"] <= WORKER_MB,
        "scripts that ran": scripts in (0, None),
    }
    return {
        "uploads": len(rows) + flood + 3 * slow,
        "cases": len(rows),
        "failures": failures,
        **figures,
        "scripts that ran": scripts,
        "slow connections": waves,
        "flood of 8 MiB uploads": {"sent": flood, "answered": answered, "refused": refused},
        "promises kept": all(kept.values()),
        "broken promises": [name for name, value in kept.items() if not value],
        "by group": dict(sorted(Counter(row["group"] for row in rows).items())),
        "by status": dict(sorted(Counter(str(row["status"]) for row in rows).items())),
    }


@dataclass
class Bench:
    """A server in a process of its own, watched."""

    port: int = 0
    slowest: float = 0.0
    slowest_name: str = ""
    ordinary: list[float] = field(default_factory=list)
    lost: int = 0
    decoders: dict[int, float] = field(default_factory=dict)
    largest: float = 0.0
    dearest: float = 0.0

    def __enter__(self) -> "Bench":
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self._process.stdout.readline())
        assert self.post([form(picture("green"))]).status == 200
        for _ in range(3):
            self.get()
        self.before = self.rss()
        self._stop = threading.Event()
        self._watchers = [threading.Thread(target=self._visit), threading.Thread(target=self._measure)]
        for watcher in self._watchers:
            watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for watcher in self._watchers:
            watcher.join()
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def send(self, case: Case) -> dict:
        """One case; what came of it."""
        pieces = case.pieces()
        before = self.processor_s()
        answer = self.post(pieces)
        self.dearest = max(self.dearest, self.processor_s() - before)
        if answer.seconds > self.slowest:
            self.slowest, self.slowest_name = answer.seconds, case.name
        failure = case.failure(answer.status, answer.body)
        if not failure and answer.seconds > UPLOAD_S:
            failure = f"took {answer.seconds:.1f} s"
        return {"name": case.name, "group": case.group, "status": answer.status, "failure": failure}

    def post(self, pieces: Iterable[bytes]) -> "Answer":
        """Send pieces until all are sent or nobody reads them; then read the answer."""
        return exchange(self.port, pieces, patience=30)

    def get(self) -> float:
        """An ordinary visit; how long it took."""
        answer = self.post([f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()])
        if answer.status != 200:
            self.lost += 1
        return answer.seconds

    def slow(self, count: int, sent: str, *, patiently: bool = True) -> dict:
        """Many connections that send a little and then nothing; ordinary requests go on, and so do uploads.

        Patiently, we see how long it takes until all of them are closed.
        """
        first = {
            "nothing": b"",
            "half a header": b"POST /classify HTTP/1.1\r\nHost: 127",
            "half a body": form(picture("green"))[:-300],
        }[sent]
        held = []
        for _ in range(count):
            held.append(socket.create_connection(("127.0.0.1", self.port), timeout=30))
            held[-1].sendall(first)
        seconds = max(self.get() for _ in range(5))
        upload = self.post([form(picture("green"))])
        began, open_until = time.monotonic(), 0.0
        for connection in held:
            with connection:
                if patiently:
                    _drain(connection)
            open_until = time.monotonic() - began
        return {
            "sent": sent, "connections": count, "slowest page meanwhile s": round(seconds, 3),
            "upload meanwhile s": round(upload.seconds, 3), "upload answered": upload.status == 200,
            "all closed after s": round(open_until, 1), "let go": open_until < 15 and upload.status == 200,
        }  # fmt: skip

    def flood(self, count: int) -> tuple[int, int]:
        """Many uploads of 8 MiB at once: how many were refused, how many answered."""
        data = picture("green") + bytes(8 * 2**20 - 2000)
        told: list[int] = []
        crowd = [
            threading.Thread(target=lambda: told.append(self.post([form(data)]).status)) for _ in range(count)
        ]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        return sum(status != 200 for status in told), told.count(200)

    def scripts(self) -> int | None:
        """How many names ran as scripts in a browser; None without one."""
        if not CHROMIUM.exists():
            return None
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
            page = browser.new_page()
            complaints: list[str] = []
            page.on("console", lambda message: complaints.append(message.text))
            page.on("dialog", lambda dialog: complaints.append(dialog.message))
            page.goto(f"http://127.0.0.1:{self.port}/")
            ran = int("ran" in page.title())
            page.set_input_files("#picture", {"name": EVIL, "mimeType": EVIL, "buffer": picture("blue")})
            page.locator("#answer .label").wait_for()
            assert page.get_by_text(EVIL).count() > 3, "the names are not shown at all"
            ran += int("ran" in page.title()) + len(complaints)
            browser.close()
        return ran

    def rss(self) -> float:
        """Memory of the server, MB."""
        return _status(self._process.pid, "VmRSS")

    def processor_s(self) -> float:
        """Processor time that the server and its decoders have taken."""
        return sum(_processor_s(pid) for pid in (self._process.pid, *_children(self._process.pid)))

    def figures(self) -> dict:
        """What was measured."""
        return {
            "load average of the machine": round(os.getloadavg()[0], 1),
            "slowest upload s": round(self.slowest, 3),
            "slowest upload": self.slowest_name,
            "dearest upload, processor s": round(self.dearest, 2),
            "ordinary requests": len(self.ordinary),
            "ordinary requests lost": self.lost,
            "slowest ordinary request s": round(max(self.ordinary), 3),
            "server MB before": round(self.before, 1),
            "server grew by MB": round(max(self.peak, self.rss()) - self.before, 1),
            "largest decoder MB": round(self.largest, 1),
            "decoders started": len(self.decoders),
        }

    def _visit(self) -> None:
        while not self._stop.wait(0.2):
            self.ordinary.append(self.get())

    def _measure(self) -> None:
        self.peak = self.before
        while not self._stop.wait(0.05):
            self.peak = max(self.peak, self.rss())
            for pid in _children(self._process.pid):
                self.decoders[pid] = max(self.decoders.get(pid, 0), _status(pid, "VmHWM"))
            self.largest = max(self.decoders.values(), default=0)


@dataclass
class Answer:
    """What came back; status 0 where the connection was closed without a word."""

    status: int
    body: bytes
    seconds: float


def exchange(port: int, pieces: Iterable[bytes], patience: float) -> Answer:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except OSError:
            pass  # refused while sending; the answer may be there all the same
        said = _drain(connection)
    head, _, body = said.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return Answer(status, body, time.monotonic() - began)


def _drain(connection: socket.socket) -> bytes:
    said = b""
    try:
        while part := connection.recv(2**16):
            said += part
            head, found, body = said.partition(b"\r\n\r\n")
            length = next(
                (int(v[15:]) for v in head.lower().split(b"\r\n") if v.startswith(b"content-length:")), None
            )
            if found and length is not None and len(body) >= length:
                break
    except OSError:
        pass
    return said


def _status(pid: int, key: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith(key)), 0.0)


def _processor_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []


# The server


def serve_until_stopped() -> None:
    """Serve the page of an agent that tells colours, until standard input ends."""
    import torch

    from stolon.shell.decoding import Decoder
    from stolon.shell.web.app import make_app
    from stolon.shell.web.server import serve

    torch.set_num_threads(1)
    view = colours()
    with Decoder(view.size) as decoder, serve(make_app(view, decoder)) as server:
        print(server.port, flush=True)
        sys.stdin.read()


def colours():
    """An agent that tells green from other colours, and whose every name is a script."""
    from tests.shell.web.fakes import FakeAgent

    from stolon.shell.web.facade import Answer, Confusion, Offer, Peer, Progress

    def classify(pixels):
        red, green, blue = pixels[0].float().mean((1, 2)).tolist()
        label = "green" if green > red + 40 and green > blue + 40 else EVIL
        return Answer(known=True, task=EVIL, label=label, confidence=0.5)

    agent = FakeAgent(160)
    named = {"name": EVIL, "classes": (EVIL,) * 5, "author": EVIL, "fingerprint": EVIL, "reason": EVIL}
    agent.known = [dataclasses.replace(task, own=False, active=False, **named) for task in agent.known * 3]
    agent.others = [Peer(EVIL, EVIL, 1.0, in_step=True)] * 8
    agent.strangers = [Offer(EVIL, EVIL, EVIL)]
    agent.progress = Progress(EVIL, EVIL, 1, 2)
    agent.confused = Confusion((EVIL, EVIL), ((0.5, 0.3, 0.2), (0.1, 0.9, 0.0)))
    agent.who = dataclasses.replace(agent.who, backbone=EVIL)
    agent.classify = classify
    return agent


if __name__ == "__main__":
    main()
