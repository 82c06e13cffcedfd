"""Downloads, from a server on this machine only: resumed, checked, never left half done."""

import gzip
import hashlib
import os
import re
import socket
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from needle.data import FetchError
from needle.data import fetch as fetch_module
from needle.data.fetch import fetch, sha256_of

CONTENT = bytes(range(256)) * 2000  # 512 000 bytes, several pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = b"something else"


class Handler(BaseHTTPRequestHandler):
    """Each path is a behaviour, the method of that name; what was asked for is noted."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        getattr(self, self.path.strip("/").partition("?")[0])()

    def start(self):
        met = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(met[1]) if met else 0

    def reply(self, status, body, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def good(self, content=CONTENT):
        """Knows nothing of Range."""
        self.reply(200, content)

    def ranged(self, content=CONTENT, sent=None):
        start = self.start()
        if start >= len(content):
            return self.send_error(416)
        rest = content[start:]
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.reply(206 if start else 200, rest[:sent], length=len(rest), Content_Range=span)

    def cut(self):
        """Resumes, but gives 200 000 bytes a connection."""
        self.ranged(sent=200_000)

    def stubborn(self):
        """Does not resume, and always cuts at the same byte."""
        self.reply(200, CONTENT[:1000], length=len(CONTENT))

    def dead(self):
        """Promises and sends nothing."""
        self.reply(200, b"", length=len(CONTENT))

    def chunked(self):
        """Cuts inside a chunked reply."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"1000\r\n" + CONTENT[:100])

    def wrong(self):
        self.ranged(OTHER)

    def misplaced(self):
        """Answers a Range with another part than asked for."""
        span = f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"
        self.reply(206 if self.start() else 200, CONTENT, Content_Range=span)

    def pretends(self):
        """Sends all of it, yet labels it as the part asked for; without status 206 that means nothing."""
        span = f"bytes {self.start()}-{len(CONTENT) - 1}/{len(CONTENT)}"
        self.reply(200, CONTENT, Content_Range=span)

    def absent(self):
        self.send_error(404)

    def garbled(self):
        self.wfile.write(b"this is no HTTP\r\n\r\n")

    def gzip6(self):
        self.ranged(gzip.compress(CONTENT, 6))

    def endless(self):
        """Says no length and goes on until it is hung up on."""
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(1000):
                self.wfile.write(bytes(1 << 16))
        except OSError:
            self.server.hung_up.set()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def running():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.hung_up = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def server(running, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first use
    running.requests.clear()
    running.hung_up.clear()
    return running


@pytest.fixture
def url(server):
    return lambda path: f"http://127.0.0.1:{server.server_port}/{path}"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder" / "file.bin"


def leave_part(target, content):
    target.parent.mkdir()
    part = target.with_name("file.bin.part")
    part.write_bytes(content)
    return part


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def asked(server):
    return [span for _, span in server.requests]


# ---- what works ----


@pytest.mark.parametrize("path", ["good", "ranged"])
def test_fetches_whole_and_leaves_nothing_else(url, target, server, path):
    assert fetch(url(path), SHA256, target) == target
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["file.bin"] and asked(server) == [None]


def test_upper_case_checksum_and_text_path(url, target):
    assert fetch([url("good")], SHA256.upper(), str(target)) == target


def test_present_file_needs_no_network(url, target, server):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    assert fetch(url("absent"), SHA256, target) == target
    assert server.requests == []


def test_partial_file_is_resumed(url, target, server):
    leave_part(target, CONTENT[:300_000])
    fetch(url("ranged"), SHA256, target)
    assert target.read_bytes() == CONTENT
    assert asked(server) == ["bytes=300000-"] and names(target.parent) == ["file.bin"]


@pytest.mark.parametrize("path", ["good", "misplaced", "pretends"])
def test_partial_file_with_a_server_that_cannot_resume(url, target, server, path):
    leave_part(target, CONTENT[:300_000])
    fetch(url(path), SHA256, target)
    assert target.read_bytes() == CONTENT and asked(server) == ["bytes=300000-"]


def test_complete_partial_file_needs_no_network(url, target, server):
    leave_part(target, CONTENT)
    fetch(url("absent"), SHA256, target)
    assert target.read_bytes() == CONTENT and server.requests == []


@pytest.mark.parametrize("left", [b"x" * 1000, CONTENT + b"x"], ids=["wrong start", "longer than the file"])
def test_partial_file_of_something_else_is_fetched_anew(url, target, left):
    leave_part(target, left)
    fetch(url("ranged"), SHA256, target)
    assert target.read_bytes() == CONTENT and names(target.parent) == ["file.bin"]


def test_cut_connection_is_taken_up_where_it_broke(url, target, server):
    fetch(url("cut"), SHA256, target)
    assert target.read_bytes() == CONTENT
    assert asked(server) == [None, "bytes=200000-", "bytes=400000-"]


@pytest.mark.parametrize("bad", ["absent", "wrong", "stubborn", "dead", "garbled", "chunked"])
def test_next_mirror_is_tried(url, target, bad):
    fetch([url(bad), url("good")], SHA256, target)
    assert target.read_bytes() == CONTENT and names(target.parent) == ["file.bin"]


def test_next_mirror_resumes_what_the_first_left(url, target, server):
    fetch([url("stubborn"), url("ranged")], SHA256, target)
    assert server.requests[-1] == ("/ranged", "bytes=1000-") and target.read_bytes() == CONTENT


def test_checksum_of_content_passes_any_packing(url, target):
    fetch(url("gzip6"), SHA256, target, of_content=True)
    assert gzip.decompress(target.read_bytes()) == CONTENT
    assert sha256_of(target, of_content=True) == SHA256 != sha256_of(target)


def test_checksum_of_content_repairs_a_mixture_of_packings(url, target):
    leave_part(target, gzip.compress(CONTENT, 1)[:700])
    fetch(url("gzip6"), SHA256, target, of_content=True)
    assert gzip.decompress(target.read_bytes()) == CONTENT


def test_proxy_of_the_environment_is_used(url, target, server, monkeypatch):
    monkeypatch.setenv("http_proxy", url("")[:-1])
    monkeypatch.setenv("no_proxy", "")
    seen = []
    monkeypatch.setattr(Handler, "do_GET", lambda self: (seen.append(self.path), self.good()))
    fetch("http://mirror.invalid/file", SHA256, target)
    assert seen == ["http://mirror.invalid/file"]


def test_progress_counts_bytes_from_where_it_resumes(url, target, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, **options):
            self.options, self.updates = options, []
            self.update = self.updates.append
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(fetch_module, "meter", Bar)
    leave_part(target, CONTENT[:300_000])
    fetch(url("ranged"), SHA256, target)
    (bar,) = bars
    assert bar.options == {"total": len(CONTENT), "desc": "file.bin", "unit": "B"}
    assert bar.updates[0] == 300_000 and sum(bar.updates) == len(CONTENT)


def test_file_is_synced_before_it_gets_its_name(url, target, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (steps.append("fsync"), fsync(number))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (replace(a, b), steps.append(os.path.basename(b)))[0])
    fetch(url("good"), SHA256, target)
    assert steps == ["fsync", "file.bin"]


def test_two_downloads_at_once_do_not_mix(url, target):
    failures = []

    def one():
        try:
            fetch(url("cut"), SHA256, target)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and target.read_bytes() == CONTENT and names(target.parent) == ["file.bin"]


# ---- what fails, and how ----


def test_wrong_bytes_are_removed_and_told(url, target):
    with pytest.raises(FetchError) as caught:
        fetch(url("wrong"), SHA256, target)
    message = str(caught.value)
    assert f"wrong bytes, removed: SHA-256 {hashlib.sha256(OTHER).hexdigest()}; wanted {SHA256}" in message
    assert url("wrong") in message and names(target.parent) == []


def test_content_that_is_no_gzip_is_wrong_bytes(url, target):
    with pytest.raises(FetchError, match="wrong bytes, removed: .* no sound gzip file"):
        fetch(url("good"), SHA256, target, of_content=True)
    assert names(target.parent) == []


def test_cut_download_waits_for_the_next_call(url, target, server):
    with pytest.raises(FetchError, match="connection cut after 1000 of 512000 bytes"):
        fetch(url("stubborn"), SHA256, target)
    assert names(target.parent) == ["file.bin.part"]
    assert (target.parent / "file.bin.part").read_bytes() == CONTENT[:1000]
    assert asked(server) == [None, "bytes=1000-"], "a second try that brings nothing is the last"
    fetch(url("ranged"), SHA256, target)
    assert server.requests[-1] == ("/ranged", "bytes=1000-") and target.read_bytes() == CONTENT


def test_interrupted_download_waits_for_the_next_call(url, target, monkeypatch):
    class Interrupted(fetch_module.meter().__class__):
        def update(self, n=1):
            super().update(n)
            if self.n > 200_000:
                raise KeyboardInterrupt

    monkeypatch.setattr(fetch_module, "meter", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(url("ranged"), SHA256, target)
    assert names(target.parent) == ["file.bin.part"]
    left = (target.parent / "file.bin.part").read_bytes()
    assert len(left) > 200_000 and CONTENT.startswith(left)


def test_no_network_says_what_was_tried_and_the_way_round(server, target):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    nowhere = [f"http://127.0.0.1:{port}/a", f"http://127.0.0.1:{port}/b"]  # nobody listens there any more
    with pytest.raises(FetchError) as caught:
        fetch(nowhere, SHA256, target)
    message = str(caught.value)
    assert all(url in message for url in nowhere) and "refused" in message
    assert "could not download file.bin" in message and "NEEDLE_DATA" in message and "proxy" in message


def test_absent_everywhere_names_every_answer(url, target):
    with pytest.raises(FetchError, match=r"/absent \(HTTP 404 Not Found\), .*/absent\?2 \(HTTP 404"):
        fetch([url("absent"), url("absent?2")], SHA256, target)


def test_silent_server_times_out(server, target):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as mute:  # listens, never answers
        begun = time.monotonic()
        with pytest.raises(FetchError, match="timed out"):
            fetch(f"http://127.0.0.1:{mute.server_port}/", SHA256, target, timeout=0.2)
        assert time.monotonic() - begun < 4


def test_endless_reply_is_hung_up_on(url, target, server):
    with pytest.raises(FetchError, match="wrong bytes, removed: .* too large"):
        fetch(url("endless"), SHA256, target, max_bytes=1_000_000)
    assert server.hung_up.wait(5) and names(target.parent) == []


def test_too_large_a_reply_is_not_begun(url, target):
    with pytest.raises(FetchError, match="it has 512000 bytes, wanted at most 511999"):
        fetch(url("good"), SHA256, target, max_bytes=len(CONTENT) - 1)
    fetch(url("good"), SHA256, target, max_bytes=len(CONTENT))


def test_bomb_is_unpacked_no_further_than_allowed(tmp_path):
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(bytes(10_000_000)))
    assert sha256_of(bomb, of_content=True, max_bytes=5_000_000) == ""
    assert sha256_of(bomb, of_content=True) == hashlib.sha256(bytes(10_000_000)).hexdigest()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_another_file_in_the_place_is_left_alone(url, target, server, kind):
    target.parent.mkdir()
    target.write_bytes(OTHER) if kind == "file" else target.mkdir()
    with pytest.raises(FetchError, match="file.bin is there but is not the file wanted .*move it away"):
        fetch(url("good"), SHA256, target)
    assert server.requests == [] and (target.is_dir() or target.read_bytes() == OTHER)


def test_a_full_disk_is_not_blamed_on_the_mirror(url, target, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        fetch([url("good"), url("ranged")], SHA256, target)
    assert not isinstance(caught.value, FetchError)


@pytest.mark.parametrize("urls", [[], "ftp://a.invalid/x", ["file:///x"], "httpx://a.invalid/x", "a.invalid"])
def test_refuses_addresses_that_are_not_http(urls, target):
    with pytest.raises(ValueError, match="wanted one or more http or https addresses"):
        fetch(urls, SHA256, target)


@pytest.mark.parametrize("urls", [None, 5, [5], b"http://a.invalid/x", ["http://a.invalid/x", None]], ids=repr)
def test_refuses_addresses_that_are_no_text(urls, target):
    with pytest.raises(ValueError, match="fetch: wanted one or more http or https addresses"):
        fetch(urls, SHA256, target)


@pytest.mark.parametrize(
    "address", ["http://[", "http://a b.invalid/x", "http://127.0.0.1:port/x", "http://127.0.0.1/\xfc"]
)
def test_an_address_that_cannot_be_read_is_one_bad_mirror(url, target, address):
    assert fetch([address, url("good")], SHA256, target) == target
    target.unlink()
    with pytest.raises(FetchError, match=re.escape(f"could not download file.bin; tried {address} (")):
        fetch(address, SHA256, target)


@pytest.mark.parametrize("timeout", [-1, 0, float("nan"), float("inf"), None, "20"])
def test_refuses_a_timeout_that_is_no_time(url, target, timeout):
    with pytest.raises(ValueError, match=f"fetch: timeout must be a positive number of seconds, got {timeout!r}"):
        fetch(url("good"), SHA256, target, timeout=timeout)


@pytest.mark.parametrize("sha256", ["", "abc", SHA256 + "0", "g" * 64, None])
def test_refuses_what_is_no_checksum(url, sha256, target):
    with pytest.raises(ValueError, match="sha256 must be 64 hexadecimal digits"):
        fetch(url("good"), sha256, target)
