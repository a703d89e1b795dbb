"""A webhook goes to public addresses and to those that were allowed by name, and to no other, whatever a name says."""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from app.notifications.address import is_allowed
from app.notifications.messages import Message
from app.notifications.sending import Address, Outcome, Sender
from app.settings import Settings, parse_networks
from tests.notifications.receiver import receiving

PRIVATE = (
    "0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 192.0.0.8 192.0.2.1 192.88.99.1 "
    "192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 224.0.1.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 "
    "::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::1 "
    "100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:a00:1::1 3fff::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 "
    "ff0e::1 5f00::1"
)
PUBLIC = "1.1.1.1 8.8.8.8 172.32.0.1 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1"
MESSAGE = Message(id="msg_1", title="title", text="text", body=b"{}")
NOW = datetime.now(UTC)


@pytest.mark.parametrize("address", PRIVATE.split())
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_allowed(ip_address(address), ())


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed(ip_address(address), ())


def test_a_network_that_is_named_is_allowed_and_its_neighbours_are_not() -> None:
    networks = parse_networks("10.1.0.0/16, fd00::/8")
    allowed = ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::1"]
    refused = ["10.2.0.1", "127.0.0.1", "::ffff:10.2.0.1", "fe80::1"]
    assert [is_allowed(ip_address(each), networks) for each in allowed] == [True] * 4
    assert [is_allowed(ip_address(each), networks) for each in refused] == [False] * 4


@pytest.mark.parametrize("networks", ["10.0.0.1/8", "all", "10.0.0.0/33"])
def test_what_is_no_network_is_refused_at_the_start(networks: str) -> None:
    with pytest.raises(ValueError, match="notification_networks"):
        Settings(notification_networks=networks)


class Names:
    """A server of names that answers each question with the next of its answers."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers, self.asked = list(answers), 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


async def send(config: Settings, names: Names | None, url: str) -> Outcome:
    async with Sender(config, names) as sender:
        return await sender.send(Address("webhook", url, {}, ("whsec_c2VjcmV0",)), MESSAGE, NOW)


async def test_a_name_that_leads_to_a_private_address_is_not_called(config: Settings) -> None:
    closed = config.model_copy(update={"notification_networks": ""})
    async with receiving() as receiver:
        outcome = await send(closed, Names(["127.0.0.1"]), f"http://hooks.example.com:{receiver.port}/")
    assert outcome.error is not None
    assert "127.0.0.1 is no public address" in outcome.error
    assert receiver.received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0", "[::1]", "[::ffff:7f00:1]"])
async def test_no_way_to_write_loopback_leads_there(config: Settings, host: str) -> None:
    closed = config.model_copy(update={"notification_networks": ""})
    async with receiving() as receiver:
        outcome = await send(closed, None, f"http://{host}:{receiver.port}/")
    assert outcome.error is not None
    assert "no public address" in outcome.error
    assert receiver.received == []


async def test_a_name_is_asked_for_once_and_what_was_looked_at_is_what_is_called(config: Settings) -> None:
    """DNS rebinding: allowed when looked at, another when asked again."""
    names = Names(["127.0.0.1"], ["10.9.9.9"])
    async with receiving() as receiver:
        outcome = await send(config, names, f"http://hooks.example.com:{receiver.port}/")
    assert outcome.error is None
    assert names.asked == 1
    assert [each.headers["host"] for each in receiver.received] == [f"hooks.example.com:{receiver.port}"]


async def test_of_several_addresses_only_the_allowed_ones_are_called(config: Settings) -> None:
    names = Names(["10.9.9.9", "169.254.169.254", "127.0.0.1"])
    async with receiving() as receiver:
        outcome = await send(config, names, f"http://hooks.example.com:{receiver.port}/")
    assert outcome.error is None
    assert outcome.ms < 900


async def test_a_server_of_names_that_hangs_is_not_waited_for(config: Settings) -> None:
    async def hang(host: str, port: int) -> Sequence[str]:
        import asyncio

        await asyncio.sleep(60)
        return []

    async with Sender(config, hang) as sender:
        outcome = await sender.send(Address("webhook", "http://a.example.com/", {}, ("whsec_c2VjcmV0",)), MESSAGE, NOW)
    assert outcome.error is not None
    assert outcome.ms < 1_500


async def test_tls_speaks_to_the_name_and_not_to_the_address(config: Settings) -> None:
    import asyncio

    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _, name, __: asked.append(name)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        outcome = await send(config, Names(["127.0.0.1"]), f"https://hooks.example.com:{port}/")
    assert outcome.error is not None
    assert asked == ["hooks.example.com"]
