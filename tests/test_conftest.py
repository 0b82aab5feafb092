"""The guard of tests/conftest.py, shown to guard."""

from __future__ import annotations

import socket

import pytest
import trio
from hypothesis import settings


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org"])
async def test_leaving_this_machine_is_refused_by_name_of_test(
    host: str, refused_connections: list[str]
) -> None:
    family = trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET
    with (
        trio.socket.socket(family) as sock,
        pytest.raises(RuntimeError, match="test_leaving_this_machine") as caught,
    ):
        await sock.connect((host, 80))
    assert host in str(caught.value)
    assert refused_connections == [host]
    refused_connections.clear()


def test_blocking_and_datagram_sockets_are_refused_too(refused_connections: list[str]) -> None:
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        for attempt in (
            lambda: stream.connect(("192.0.2.1", 80)),
            lambda: stream.connect_ex(("192.0.2.2", 80)),
            lambda: datagram.sendto(b"", ("192.0.2.3", 80)),
        ):
            with pytest.raises(RuntimeError, match="tests have no network"):
                attempt()
    assert refused_connections == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    refused_connections.clear()


async def test_the_loopback_is_allowed() -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"hi")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, greet, 0)
        port = listeners[0].socket.getsockname()[1]
        async with await trio.open_tcp_stream("localhost", port) as client:
            assert await client.receive_some() == b"hi"
        nursery.cancel_scope.cancel()


def test_a_swallowed_refusal_still_fails_the_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import refused_connections")
    pytester.makepyfile(
        """
        import socket

        def test_swallows():
            try:
                socket.create_connection(("192.0.2.1", 80))
            except RuntimeError:
                pass
        """
    )
    result = pytester.runpytest("-p", "no:cacheprovider", "-p", "no:trio")
    result.assert_outcomes(passed=1, errors=1)


def test_hypothesis_has_no_deadline() -> None:
    assert settings().deadline is None
