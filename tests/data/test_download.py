"""Downloads that go wrong in every way a network and a disk have, from a server on this machine."""

import contextlib
import functools
import gzip
import hashlib
import importlib
import json
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import jaxnn as nn
from jaxnn.data import DataError
from jaxnn.data.sources import download
from tests.data.test_formats import idx_bytes

MODULE = importlib.import_module("jaxnn.data.download")  # whose name in nn.data is the function's
CONTENT = np.random.default_rng(0).bytes(300_000)
NAME = "data.gz"


class Server(ThreadingHTTPServer):
    """Serves `files` under /MANNER/NAME, in the manner that the path names."""

    daemon_threads = True

    def __init__(self, files):
        self.files, self.closing, self.asked = files, threading.Event(), []
        self.together = threading.Barrier(2)
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request, client_address):
        pass  # a client that hung up


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        _, manner, name = self.path.split("/")
        self.server.asked.append(self.path)
        content = self.server.files.get(name)
        if content is None or manner == "gone":
            self.send_error(404)
            return
        getattr(self, manner)(content, name)

    def start(self, length=None, **headers):
        self.send_response(200)
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def good(self, content, name):
        self.start(len(content))
        self.wfile.write(content)

    def without_length(self, content, name):
        self.start()
        self.wfile.write(content)

    def wrong(self, content, name):
        self.start(len(content))
        self.wfile.write(bytes(len(content)))

    def broken(self, content, name):
        self.start(len(content))
        self.wfile.write(content[: len(content) // 2])

    def broken_without_length(self, content, name):
        self.start()
        self.wfile.write(content[: len(content) // 2])

    def broken_chunks(self, content, name):
        self.protocol_version = "HTTP/1.1"
        self.start(Transfer_Encoding="chunked")
        self.wfile.write(b"%x\r\n%b\r\n" % (1000, content[:1000]))
        self.close_connection = True

    def reset(self, content, name):
        self.start(len(content))
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def silent(self, content, name):
        self.server.closing.wait()

    def stalling(self, content, name):
        self.start(len(content))
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.server.closing.wait()

    def endless(self, content, name):
        self.start()
        while not self.server.closing.is_set():
            self.wfile.write(content)

    def apology(self, content, name):
        page = b"<!DOCTYPE html><p>Please sign in."
        self.start(len(page), Content_Type="text/html")
        self.wfile.write(page)

    def apology_without_length(self, content, name):
        self.start(Content_Type="text/html")
        self.wfile.write(b"<!DOCTYPE html><p>Please sign in.")

    def busy(self, content, name):
        self.send_error(503)

    def moved(self, content, name):
        self.send_response(302)
        self.send_header("Location", f"/good/{name}")
        self.end_headers()

    def going_round(self, content, name):
        self.send_response(302)
        self.send_header("Location", self.path)
        self.end_headers()

    def going_nowhere(self, content, name):
        self.send_response(302)
        self.send_header("Location", "http://[::1")
        self.end_headers()

    def called_encoded(self, content, name):
        """As servers do that take every .gz for an encoding."""
        self.start(len(content), Content_Encoding="gzip")
        self.wfile.write(content)

    def encoded_once_more(self, content, name):
        self.without_length(gzip.compress(content), name)

    def together(self, content, name):
        """No client gets its second half before another one has its first, nor its last byte before all others."""
        half = len(content) // 2
        self.start(len(content))
        for piece in (content[:half], content[half:-1]):
            self.wfile.write(piece)
            self.wfile.flush()
            self.server.together.wait(30)
        self.wfile.write(content[-1:])

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving(files):
    """A server on this machine, whose `host` is the beginning of its addresses."""
    server = Server(files)
    server.host = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def host():
    with serving({NAME: CONTENT}) as server:
        yield server.host


def fetch(folder, *mirrors):
    def verify(path):
        if hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(CONTENT).digest():
            raise DataError(f"{path}: another file than expected")

    MODULE.fetch("mnist", folder / NAME, mirrors, len(CONTENT), verify)


FAULTS = {
    "gone": "HTTP 404 Not Found",
    "busy": "HTTP 503 Service Unavailable",
    "broken": "breaks off after 150000 of 300000 bytes: ",
    "broken_without_length": "ends after 150000 of 300000 bytes",
    "broken_chunks": "breaks off after 1000 of 300000 bytes: ",
    "reset": "(breaks off after [0-9]+ of 300000 bytes|cannot be reached): ",
    "wrong": "another file than expected",
    "apology": "another file than expected: 33 bytes instead of 300000",
    "apology_without_length": "ends after 33 of 300000 bytes",
    "silent": "stalls after 0 of 300000 bytes: none for 0.3 seconds",
    "stalling": "stalls after 1[0-9]{5} of 300000 bytes: none for 0.3 seconds",
    "endless": "another file than expected: more than 300000 bytes",
    "going_round": "cannot be reached: TooManyRedirects",
    "going_nowhere": "cannot be reached: ",
    "encoded_once_more": "another file than expected: more than 300000 bytes",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_leaves_nothing_and_is_made_good_by_repeating(fault, host, tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "_TIMEOUT", 0.3)
    folder = tmp_path / "deep" / "cache"
    mirror = rf"{host}/{fault}/ \({FAULTS[fault]}"
    with pytest.raises(DataError, match=f"^mnist: {NAME} could not be downloaded from {mirror}") as raised:
        fetch(folder, f"{host}/{fault}/")
    assert ".download-" not in str(raised.value)
    assert list(folder.iterdir()) == []
    fetch(folder, f"{host}/{fault}/", f"{host}/good/")
    assert [path.name for path in folder.iterdir()] == [NAME]
    assert (folder / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("manner", ["good", "without_length", "moved", "called_encoded"])
def test_what_is_well_arrives_whole(manner, host, tmp_path, capsys):
    fetch(tmp_path, f"{host}/{manner}/")
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert f"mnist: {NAME}" in capsys.readouterr().err


def test_every_mirror_that_fails_is_named(host, tmp_path):
    closed = socket.create_server(("127.0.0.1", 0))
    nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    closed.close()
    with pytest.raises(DataError, match=rf"/gone/ \(HTTP 404 .*\) or {nobody} \(cannot be reached: ConnectionError\)"):
        fetch(tmp_path, f"{host}/gone/", nobody)


def test_a_disk_that_is_full(host, tmp_path):
    """The system's own refusal to let the file grow, as of a disk that has no more room."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(DataError) as raised:
            fetch(tmp_path, f"{host}/good/", f"{host}/gone/")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(raised.value) == f"{tmp_path / NAME}: mnist cannot be stored there (File too large)"
    assert list(tmp_path.iterdir()) == []
    fetch(tmp_path, f"{host}/good/")
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_an_interruption_leaves_nothing(host, tmp_path):
    def verify(path):
        assert path.read_bytes() == CONTENT
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        MODULE.fetch("mnist", tmp_path / NAME, [f"{host}/good/"], len(CONTENT), verify)
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import json, sys
from dataclasses import replace
import jaxnn as nn
from jaxnn.data.sources import download
host, folder, known = sys.argv[1:]
files = [replace(file, **now) for file, now in zip(nn.data.find("mnist").files, json.loads(known))]
print(download(replace(nn.data.find("mnist"), files=tuple(files), mirrors=(f"{host}/together/",)), folder))
"""


def test_two_processes_that_download_at_once_do_not_disturb_each_other(tmp_path):
    """Each gets every file half before the other has all of it; what is under a final name is always whole."""
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 10, shape).astype(np.uint8) for shape in ((8, 28, 28), (8,), (6, 28, 28), (6,))]
    names = [file.name for file in nn.data.find("mnist").files]
    files = {f"{name}.gz": gzip.compress(idx_bytes(array)) for name, array in zip(names, arrays, strict=True)}
    known = [
        {"count": len(array), "sha256": hashlib.sha256(idx_bytes(array)).hexdigest(), "gzip_size": len(content)}
        for array, content in zip(arrays, files.values(), strict=True)
    ]
    seen: set[Path] = set()
    with serving(files) as server:
        command = [sys.executable, "-c", PROGRAM, server.host, str(tmp_path), json.dumps(known)]
        both = [
            subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)
        ]
        while any(process.poll() is None for process in both):
            for path in tmp_path.glob("mnist/*.gz"):
                assert path.read_bytes() == files[path.name]
                seen.add(path)
        said = [process.communicate()[0].strip() for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert said == [str(tmp_path / "mnist")] * 2
        assert sorted(server.asked) == sorted([f"/together/{name}" for name in files] * 2)
    assert seen
    assert sorted(path.name for path in (tmp_path / "mnist").iterdir()) == sorted(files)
    source = nn.data.find("mnist")
    whole = replace(source, files=tuple(replace(file, **now) for file, now in zip(source.files, known, strict=True)))
    assert download(whole, tmp_path) == tmp_path / "mnist"  # reads all of it; the server is gone
