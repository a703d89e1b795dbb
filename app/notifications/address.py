"""Where a webhook may go. A name is resolved once, its addresses are looked at, and one of those is connected to.

Checked at any other moment, a name could lead elsewhere by the time of the connection (DNS rebinding). What may be
reached is what IANA's registries of special-purpose addresses call global, and what REFIT_NOTIFICATION_NETWORKS names.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpcore

from app.settings import Network, parse_networks

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

# A server of names that does not answer holds a thread for as long as it likes, so they are threads of their own.
LOOKUPS = 8
GLOBAL_V6 = IPv6Network("2000::/3")
# 64:ff9b::/96 holds an IPv4 address in its last 32 bits (RFC 6052).
NAT64 = IPv6Network("64:ff9b::/96")
# Not for anybody on the internet, whatever `ipaddress` of this Python says of them.
SPECIAL: tuple[Network, ...] = parse_networks(
    "100.64.0.0/10,192.0.0.0/24,192.88.99.0/24,198.18.0.0/15,240.0.0.0/4,2001::/23,2001:db8::/32,3fff::/20"
)


REMEDY = "REFIT_NOTIFICATION_NETWORKS names networks that are allowed besides"


class AddressRefused(httpcore.ConnectError):
    """None of a name's addresses may be reached."""


def check_literal(host: str, networks: Sequence[Network]) -> None:
    """Raises AddressRefused for an address, however it is written, that no webhook may go to.

    A name passes: none is looked up here, and where it leads is looked at by each try.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return
    _allowed([ip_address(entry[4][0]) for entry in found], networks)


def _allowed(found: Sequence[Address], networks: Sequence[Network]) -> list[Address]:
    """Those that may be reached. Raises AddressRefused where there are some, and none may."""
    allowed = [address for address in found if is_allowed(address, networks)]
    if found and not allowed:
        raise AddressRefused(f"{found[0]} is no public address")
    return allowed


def is_allowed(address: Address, networks: Iterable[Network]) -> bool:
    """May a webhook go there? An IPv4 address within an IPv6 one is looked at as well."""
    ends = _ends(address)
    return any(end in network for end in ends for network in networks) or all(map(_is_global, ends))


def _is_global(address: Address) -> bool:
    if address.is_multicast or not address.is_global or any(address in network for network in SPECIAL):
        return False
    return isinstance(address, IPv4Address) or address in GLOBAL_V6


def _ends(address: Address) -> list[Address]:
    """Where an address leads: a mapped one and one of NAT64 to what is in them, one of 6to4 by itself as well."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.sixtofour:
        return [address, address.sixtofour]
    nat64 = IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None
    return [address.ipv4_mapped or nat64 or address]


class Resolver:
    """Names → addresses by the system's resolver, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS, "resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host, port)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to allowed addresses alone. TLS goes on to speak to, and check, the name."""

    def __init__(self, resolve: Resolve, networks: Sequence[Network]) -> None:
        self._resolve, self._networks = resolve, networks
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises AddressRefused, httpcore.ConnectError or httpcore.ConnectTimeout."""
        failed: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in await self._addresses(host, port, timeout):
            try:
                return await self._network.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError("the name has no address")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int, seconds: float | None) -> list[Address]:
        try:
            async with asyncio.timeout(seconds):
                found = [ip_address(each) for each in await self._resolve(host, port)]
        except TimeoutError:
            raise httpcore.ConnectTimeout("the name was not resolved in time") from None
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("the name cannot be resolved") from None
        return _allowed(found, self._networks)
