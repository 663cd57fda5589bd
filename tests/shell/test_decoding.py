import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.streams.making import picture, png_of_size

from stolon import pictures
from stolon.errors import ImageError, SettingError
from stolon.shell import decoding
from stolon.shell.decoding import Decoder

SIZE = 8
PNG = picture(1)


@pytest.fixture(scope="module")
def decoder():
    with Decoder(SIZE, wall_s=60) as made:  # a machine that does much else is no failure
        yield made


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def made_of(script: str, monkeypatch, **options) -> Decoder:
    """A decoder whose children run a script instead of ours."""
    decoder = Decoder(SIZE, **options)
    monkeypatch.setattr(decoder, "_command", [sys.executable, "-c", script])
    return decoder


READY = "import sys, time, struct; o = sys.stdout.buffer; o.write(b'+'); o.flush();"
READ = "n, = struct.unpack('>I', sys.stdin.buffer.read(4)); sys.stdin.buffer.read(n);"


@pytest.mark.parametrize("form", decoding.FORMATS)
def test_pixels_are_those_that_this_process_would_have_made(decoder, form):
    data = picture(2, size=(40, 30), format=form)
    assert np.array_equal(decoder.decode(data), pictures.square(data, SIZE))


def test_a_picture_of_a_size_of_its_own_fills_the_pipe(decoder):
    data = saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), np.uint8)), "PNG")
    assert 2**22 < len(data) < decoding.MAX_BYTES
    assert np.array_equal(decoder.decode(data), pictures.square(data, SIZE))
    pieces = [data[at : at + 100_001] for at in range(0, len(data), 100_001)]
    assert np.array_equal(decoder.decode(pieces), pictures.square(data, SIZE))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (picture(0, format="GIF"), "not an image"),
        (picture(0, format="BMP"), "not an image"),
        (PNG[:-30], "broken image"),
        (png_of_size(9000, 9000), "image too large"),
        (bytes(decoding.MAX_BYTES + 1), "image too large"),
    ],
)
def test_what_is_refused_is_refused_by_kind_and_the_child_lives_on(decoder, data, kind):
    decoder.decode(PNG)
    pids = decoder.pids
    with pytest.raises(ImageError, match="image: expected") as caught:
        decoder.decode(data)
    assert caught.value.kind == kind
    assert decoder.decode(PNG).shape == (3, SIZE, SIZE)
    assert decoder.pids == pids


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


JPEG = picture(1, format="JPEG")


@pytest.mark.parametrize(
    "data",
    [
        PNG[:33] + chunk(b"tEXt", b"a\0b") * 300_000 + PNG[33:],
        PNG[:-12] + chunk(b"tEXt", b"a\0b") * 300_000 + PNG[-12:],
        JPEG[:2] + b"\xff\xfe\0\2" * 1_000_000 + JPEG[2:],
        JPEG[:2] + b"\xff" * 4_000_000 + JPEG[2:],
        JPEG[:2] + bytes(4_000_000) + JPEG[2:],
        b"\xff\xd8\xff" + bytes(4_000_000),
        JPEG[:2] + b"\xff\0" * 4_000_000,
        JPEG[:2] + b"\xff\xd0" * 4_000_000,
        JPEG[:2] + b"\xff\1" * 4_000_000,
    ],
    ids=[
        "chunks",
        "chunks at the end",
        "comments",
        "fill",
        "junk",
        "junk alone",
        "stuffed",
        "restarts",
        "TEM",
    ],
)
def test_a_picture_in_very_many_parts_is_refused_soon(decoder, data):
    decoder.decode(PNG)
    before = cpu_seconds(decoder.pids[-1])
    with pytest.raises(ImageError):
        decoder.decode(data)
    assert cpu_seconds(decoder.pids[-1]) - before < 0.5


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_picture_of_usual_parts_is_no_such(decoder):
    comments = b"\xff\xfe\0\4ab" * 500 + b"\xff" * 50
    data = JPEG[:2] + comments + JPEG[2:]
    assert np.array_equal(decoder.decode(data), decoder.decode(JPEG))
    assert np.array_equal(decoder.decode(JPEG + bytes(10**6)), decoder.decode(JPEG))
    assert np.array_equal(
        decoder.decode(PNG[:33] + chunk(b"tEXt", b"a\0b") * 5000 + PNG[33:]), decoder.decode(PNG)
    )
    assert np.array_equal(decoder.decode(PNG + bytes(10**6)), decoder.decode(PNG))


def test_a_jpeg_with_far_too_many_scans_is_refused_before_it_is_decoded(decoder):
    data = saved(Image.new("L", (5000, 5000)), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="cut into many thousands"):
        decoder.decode(data[:start] + data[start:-2] * 60 + data[-2:])
    assert decoder.decode(data).shape == (3, SIZE, SIZE)


def test_a_child_has_little_memory_few_files_and_no_torch(decoder):
    decoder.decode(PNG)
    limits = Path(f"/proc/{decoder.pids[0]}/limits").read_text()
    found = {line[:26].strip(): line[26:46].strip() for line in limits.splitlines()}
    assert found["Max address space"] == str(decoding.MEMORY)
    assert found["Max file size"] == "0"
    assert found["Max open files"] == "8"
    assert found["Max core file size"] == "0"
    assert 1 <= int(found["Max cpu time"]) <= 60
    assert "libtorch" not in Path(f"/proc/{decoder.pids[0]}/maps").read_text()


def test_a_child_sees_nothing_of_our_environment(monkeypatch):
    monkeypatch.setenv("A_SECRET", "of ours")
    with Decoder(SIZE) as decoder:
        decoder.decode(PNG)
        assert b"A_SECRET" not in Path(f"/proc/{decoder.pids[0]}/environ").read_bytes()


def test_a_picture_that_takes_too_much_memory_is_refused(decoder):
    data = png_of_size(5000, 5000)
    assert np.array_equal(decoder.decode(data), pictures.square(data, SIZE))
    with Decoder(SIZE, memory=2**27, wall_s=60) as small:
        with pytest.raises(ImageError):
            small.decode(saved(Image.new("RGBA", (5000, 5000)), "PNG"))
        assert small.decode(PNG).shape == (3, SIZE, SIZE)


def test_a_killed_child_refuses_its_picture_and_the_next_one_is_served():
    with Decoder(SIZE) as decoder:
        decoder.decode(PNG)
        (pid,) = decoder.pids
        os.kill(pid, signal.SIGSTOP)
        killer = threading.Timer(0.1, os.kill, (pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(ImageError, match="save it again") as caught:
            decoder.decode(PNG)
        assert caught.value.kind == "image too costly"
        assert decoder.decode(PNG).shape == (3, SIZE, SIZE)
        assert decoder.pids
        assert decoder.pids != (pid,)
        killer.join()


def test_a_child_that_died_with_nothing_to_do_is_no_fault_of_the_next_picture():
    with Decoder(SIZE) as decoder:
        decoder.decode(PNG)
        (pid,) = decoder.pids
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert decoder.decode(PNG).shape == (3, SIZE, SIZE)


def test_a_picture_that_takes_too_long_by_the_clock_is_refused(monkeypatch):
    with made_of(READY + READ + "time.sleep(60)", monkeypatch, wall_s=0.3) as decoder:
        before = time.monotonic()
        with pytest.raises(ImageError) as caught:
            decoder.decode(PNG)
        assert caught.value.kind == "image too costly"
        assert time.monotonic() - before < 50


def test_a_child_that_reads_nothing_cannot_hold_us_up(monkeypatch):
    with (
        made_of(READY + "time.sleep(60)", monkeypatch, wall_s=0.3) as decoder,
        pytest.raises(ImageError, match="save it again"),
    ):
        decoder.decode(bytes(2**20))


def test_processor_time_is_counted_for_each_picture_alone():
    script = """
import resource, sys, time
from stolon.shell.decoding_worker import _limit_processor_time
def limit():
    _limit_processor_time(1)
    return resource.getrlimit(resource.RLIMIT_CPU)[0]
first = limit()
assert time.process_time() + 1 <= first <= time.process_time() + 2
while time.process_time() < first - 0.5: pass
assert time.process_time() + 1 <= limit()
print("and on", flush=True)
while True: time.process_time()
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (-signal.SIGXCPU, b"and on\n")


@pytest.mark.parametrize(
    "lie",
    [
        "o.write(b'+' + struct.pack('>I', 5) + b'x' * 5)",
        "o.write(b'+' + struct.pack('>I', 2**32 - 1))",
        "o.write(b'-' + struct.pack('>I', 2**20) + b'x' * 2**20)",
        "o.write(b'?????')",
        "pass",
    ],
)
def test_a_child_that_answers_rubbish_is_not_believed(monkeypatch, lie):
    with made_of(READY + READ + lie + "; o.flush(); time.sleep(9)", monkeypatch, wall_s=0.5) as decoder:
        with pytest.raises(ImageError) as caught:
            decoder.decode(PNG)
        assert caught.value.kind == "image too costly"


def test_what_a_child_says_is_shown_without_control_characters(monkeypatch):
    lie = (
        r"m = b'k\0a\x1b[31m\xff\n'; o.write(b'-' + struct.pack('>I', len(m)) + m); o.flush(); time.sleep(9)"
    )
    with made_of(READY + READ + lie, monkeypatch) as decoder:
        with pytest.raises(ImageError) as caught:
            decoder.decode(PNG)
        assert str(caught.value).isprintable()


def test_where_no_child_can_be_started_pictures_are_refused(monkeypatch):
    with made_of("raise SystemExit", monkeypatch) as decoder, pytest.raises(ImageError) as caught:
        decoder.decode(PNG)
    assert caught.value.kind == "no decoder"


def test_one_child_serves_who_comes_alone_and_no_more_than_four_serve_a_crowd():
    data = saved(Image.new("RGB", (3000, 3000), "red"), "PNG")
    with Decoder(SIZE, wall_s=60) as decoder:
        assert decoder.pids == ()
        for _ in range(3):
            decoder.decode(PNG)
        assert len(decoder.pids) == 1
        answers: list[np.ndarray] = []
        crowd = [threading.Thread(target=lambda: answers.append(decoder.decode(data))) for _ in range(9)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        assert len(answers) == 9
        assert 2 <= len(decoder.pids) <= 4


def test_children_that_are_no_longer_needed_end(monkeypatch):
    monkeypatch.setattr(decoding, "_IDLE_S", 0.0)
    data = saved(Image.new("RGB", (3000, 3000), "red"), "PNG")
    with Decoder(SIZE, wall_s=60) as decoder:
        crowd = [threading.Thread(target=decoder.decode, args=(data,)) for _ in range(4)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        decoder.decode(PNG)
        assert len(decoder.pids) == 1


def test_closed_means_no_children_and_no_answers():
    decoder = Decoder(SIZE)
    decoder.start()
    (pid,) = decoder.pids
    decoder.decode(PNG)
    assert decoder.pids == (pid,)
    decoder.close()
    decoder.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ImageError, match="stopping"):
        decoder.decode(PNG)


def test_a_child_ends_when_its_parent_is_killed():
    script = (
        "import sys, time\nfrom stolon.shell.decoding import Decoder\nd = Decoder(8); d.start()\n"
        "print(d.pids[0], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(200):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return
        if state == "Z":  # ended; whoever adopted it has not looked yet
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")


@pytest.mark.parametrize(
    "changes", [{"size": 0}, {"workers": 0}, {"cpu_s": 0}, {"cpu_s": 1.5}, {"wall_s": 0}, {"memory": 1}]
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(SettingError, match="expected"):
        Decoder(**{"size": 8, **changes})
