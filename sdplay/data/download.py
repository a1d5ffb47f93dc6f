"""A zip from an address on the internet, for a person at their own computer.

An address is resolved once, must be public, and is then connected to as it is, so that a name cannot point inwards the second
time. Only https on its usual port; redirects are followed by hand and checked again; size and time are limited.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from sdplay.data.limits import Limits
from sdplay.errors import DataError

HTTPS_PORT = 443
MAX_REDIRECTS = 3
CONNECT_SECONDS = 10
_CHUNK_BYTES = 2**16
_REDIRECTS = (301, 302, 303, 307, 308)
_INWARD = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/23",
        "fec0::/10",
    )
)
"""What leads, or may lead, somewhere else than it says: shared and translated ranges, tunnels, old site-local addresses."""
_HINT = "Download it with your browser and drop the file here."
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Network:
    """How names become addresses and addresses connections; another one stands in where nothing may be sent."""

    resolve: Callable[[str], list[str]]
    connect: Callable[[str, int], socket.socket]
    encrypt: Callable[[socket.socket, str], socket.socket]


def is_url(source: str) -> bool:
    """Does it name a protocol, as `https://...` does?"""
    return "://" in source


def download_zip(url: str, target: Path, limits: Limits, *, on_progress: Progress | None = None, network: Network | None = None) -> None:
    """Write what the address holds to `target`. Raises DataError, with a sentence, for everything else than one file of bearable size.

    on_progress(name, done, total) counts MB; total is 0 when the server does not say.
    """
    used = network or Network(_resolve, _connect, _encrypt)
    deadline = time.monotonic() + limits.download_seconds
    try:
        for _ in range(MAX_REDIRECTS + 1):
            onward = _fetch(url, target, limits, used, (deadline, on_progress))
            if onward is None:
                return
            url = urljoin(url, onward)
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = "it took too long" if time.monotonic() >= deadline else type(error).__name__
        raise DataError(f"The address {_shown(url)} could not be read ({why}).", _HINT) from error
    raise DataError(f"The address {_shown(url)} leads from one to the next without an end.", _HINT)


def is_public_address(address: str) -> bool:
    """Whether an IP address is one of the public internet, by itself and by what it embeds."""
    try:
        parsed = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        return is_public_address(str(parsed.ipv4_mapped))
    inward = any(parsed.version == network.version and parsed in network for network in _INWARD)
    return parsed.is_global and not inward and not parsed.is_multicast and not parsed.is_reserved


def _fetch(url: str, target: Path, limits: Limits, network: Network, watch: tuple[float, Progress | None]) -> str | None:
    """Where it leads onward, or None once the file is written."""
    deadline, _ = watch
    host, path = _parts(url)
    connection = _Pinned(host, _public_address(host, network), network)
    guard = threading.Timer(max(0.1, deadline - time.monotonic()), connection.cut)
    guard.start()
    try:
        with closing(connection):
            connection.request("GET", path, headers={"Accept-Encoding": "identity", "User-Agent": "sdplay"})
            with connection.getresponse() as answer:
                if answer.status in _REDIRECTS:
                    return answer.headers.get("Location") or ""
                if answer.status != http.client.OK:
                    raise DataError(f"The address {_shown(url)} answers with {answer.status} {answer.reason}.", "Check the address.")
                _save(answer, target, limits, watch)
                return None
    finally:
        guard.cancel()


def _save(answer: http.client.HTTPResponse, target: Path, limits: Limits, watch: tuple[float, Progress | None]) -> None:
    deadline, on_progress = watch
    most = limits.download_mb * 2**20
    announced = answer.length or 0
    too_large = DataError(f"The file there is larger than {limits.download_mb} MB.", "Make the pictures smaller, or bring fewer.")
    if announced > most:
        raise too_large
    written = 0
    with target.open("wb") as file:
        while chunk := answer.read1(_CHUNK_BYTES):
            written += len(chunk)
            _check_time(deadline)
            if written > most:
                raise too_large
            file.write(chunk)
            if on_progress:
                on_progress("downloading (MB)", written // 2**20, announced // 2**20)
    _check_time(deadline)
    if announced and written < announced:
        raise DataError("The download ended too early.", "Try again.")


def _check_time(deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise TimeoutError


def _parts(url: str) -> tuple[str, str]:
    """Host and path. Raises DataError for everything but plain https."""
    split = urlsplit(url)
    if split.scheme.lower() != "https" or not split.hostname or split.username or split.password:
        raise DataError(f"{_shown(url)} is not a plain https address.", "Give one that begins with https:// and has no user name in it.")
    if split.port not in (None, HTTPS_PORT):
        raise DataError(f"{_shown(url)} names the port {split.port}.", "Only https on its usual port is read.")
    host = split.hostname.encode("idna").decode() if not split.hostname.isascii() else split.hostname
    return host, (split.path or "/") + (f"?{split.query}" if split.query else "")


def _public_address(host: str, network: Network) -> str:
    """The one address that is connected to. A name with any address that is not public is refused."""
    addresses = network.resolve(host)
    if not addresses or not all(is_public_address(address) for address in addresses):
        raise DataError(f"{host[:80]} is not on the public internet.", "Copy the file to this computer and drop it here.")
    return addresses[0]


class _Pinned(http.client.HTTPConnection):
    """Talks to one address that was checked, under the name that was asked for."""

    def __init__(self, host: str, address: str, network: Network) -> None:
        super().__init__(host, HTTPS_PORT, timeout=CONNECT_SECONDS)
        self.default_port = HTTPS_PORT
        self._address, self._network = address, network
        self._line: socket.socket | None = None

    def connect(self) -> None:
        self._line = self.sock = self._network.encrypt(self._network.connect(self._address, HTTPS_PORT), self.host)

    def cut(self) -> None:
        """End a connection that drips on for ever. `sock` may be given away to the answer by then."""
        if self._line is not None:
            with suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)


def _resolve(host: str) -> list[str]:
    return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, HTTPS_PORT, type=socket.SOCK_STREAM)))


def _connect(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port), timeout=CONNECT_SECONDS)


def _encrypt(plain: socket.socket, host: str) -> socket.socket:
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def _shown(url: str) -> str:
    """An address as it may be shown: without user name, password and query, which may hold secrets."""
    split = urlsplit(url)
    return f"{split.scheme}://{(split.hostname or '')[:80]}{split.path[:80]}"
