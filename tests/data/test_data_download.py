"""A zip from an address. Nothing here touches a network: names, connections and encryption are all stood in for."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sdplay.data.download import Network, download_zip, is_public_address
from sdplay.data.limits import Limits
from sdplay.data.sources import name_of
from sdplay.errors import DataError

PUBLIC = "93.184.215.14"
INWARD = [
    "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "224.0.0.1",
    "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00:ec2::254", "fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "ff02::1", "2001:db8::1", "localhost", "",
]  # fmt: skip


@dataclass
class Internet:
    """Answers by host; remembers who was connected to."""

    answers: dict[str, Callable[[socket.socket], None]]
    addresses: dict[str, list[str]] = field(default_factory=dict)
    connected: list[str] = field(default_factory=list)

    def network(self) -> Network:
        return Network(lambda host: self.addresses.get(host, [PUBLIC]), self._connect, self._encrypt)

    def _connect(self, address: str, port: int) -> socket.socket:
        self.connected.append(f"{address}:{port}")
        self._far, near = socket.socketpair()
        near.settimeout(5)
        return near

    def _encrypt(self, plain: socket.socket, host: str) -> socket.socket:
        threading.Thread(target=self._answer, args=(self._far, host), daemon=True).start()
        return plain

    def _answer(self, far: socket.socket, host: str) -> None:
        with far:
            while b"\r\n\r\n" not in far.recv(4096):
                pass
            with contextlib.suppress(OSError):  # the other side hangs up, as it should
                self.answers[host](far)


def says(body: bytes = b"", *, status: str = "200 OK", length: int | None = None, location: str = "") -> Callable[[socket.socket], None]:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n"
    head += f"Location: {location}\r\n" if location else ""
    return lambda far: far.sendall(head.encode() + b"\r\n" + body)


def drips(far: socket.socket) -> None:
    far.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        far.sendall(b"x")
        time.sleep(0.05)


def zipped() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("a.txt", "hello")
    return written.getvalue()


def fetch(internet: Internet, target: Path, url: str = "https://pictures.example/set.zip", limits: Limits = Limits()) -> None:  # noqa: B008
    download_zip(url, target, limits, network=internet.network())


@pytest.mark.parametrize("address", INWARD)
def test_addresses_that_lead_inward_are_not_public(address: str) -> None:
    assert not is_public_address(address)


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public_address(address)


def test_a_zip_arrives_whole_by_way_of_a_redirect(tmp_path: Path) -> None:
    internet = Internet({"pictures.example": says(status="302 Found", location="https://store.example/1"), "store.example": says(zipped())})

    fetch(internet, tmp_path / "set.zip")

    assert zipfile.is_zipfile(tmp_path / "set.zip")
    assert internet.connected == [f"{PUBLIC}:443"] * 2


@pytest.mark.parametrize("addresses", [["127.0.0.1"], [PUBLIC, "10.0.0.1"], []])
def test_a_name_that_points_inward_is_never_connected_to(tmp_path: Path, addresses: list[str]) -> None:
    internet = Internet({"pictures.example": says(zipped())}, {"pictures.example": addresses})

    with pytest.raises(DataError, match="public internet"):
        fetch(internet, tmp_path / "set.zip")

    assert internet.connected == []


def test_a_redirect_inward_is_not_followed(tmp_path: Path) -> None:
    inward = says(status="307 Temporary Redirect", location="https://metadata.internal/latest")
    internet = Internet({"pictures.example": inward}, {"metadata.internal": ["169.254.169.254"]})

    with pytest.raises(DataError, match="public internet"):
        fetch(internet, tmp_path / "set.zip")

    assert internet.connected == [f"{PUBLIC}:443"]


@pytest.mark.parametrize(
    "url",
    [
        "http://pictures.example/a.zip", "file:///etc/passwd", "ftp://pictures.example/a.zip", "gopher://x/1", "https://", "https:///a.zip",
        "https://user:secret@pictures.example/a.zip", "https://pictures.example:22/a.zip", "https://pictures.example:99999/a.zip",
    ],
)  # fmt: skip
def test_other_addresses_are_refused_before_anything_is_sent(tmp_path: Path, url: str) -> None:
    internet = Internet({})

    with pytest.raises(DataError) as refused:
        fetch(internet, tmp_path / "set.zip", url)

    assert internet.connected == []
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "limits", "says_"),
    [
        (says(status="302 Found", location="https://pictures.example/set.zip"), Limits(), "without an end"),
        (says(status="404 Not Found"), Limits(), "404"),
        (says(b"x", length=10**10), Limits(), "larger than"),
        (says(b"x" * (2 * 2**20)), Limits(download_mb=1), "larger than 1 MB"),
        (says(b"x" * 10, length=100), Limits(), "could not be read|too early"),
        (drips, Limits(download_seconds=1), "too long"),
    ],
)  # fmt: skip
def test_a_server_that_misbehaves_gets_a_sentence(tmp_path: Path, answer: Callable, limits: Limits, says_: str) -> None:
    started = time.monotonic()

    with pytest.raises(DataError, match=says_):
        fetch(Internet({"pictures.example": answer}), tmp_path / "set.zip", limits=limits)

    assert time.monotonic() - started < 20


def test_a_set_is_named_after_its_address() -> None:
    assert name_of(["https://pictures.example/my/garden-gnome.zip?token=1"]) == "garden-gnome"
