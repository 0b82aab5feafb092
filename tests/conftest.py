"""What every test gets: no network, Hypothesis profiles, and workers enough.

Owns: the refusal of connections that leave this machine and of real models, the Hypothesis
profiles, `--long`, and how many workers `-n auto` means.
Must not: grow fixtures for one part of the code; those live in that part's folder.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from runtime.models.guard import ENVIRONMENT, forbid_real_models

# Deadlines measure the machine, not the code. CI replays the same examples every time so that a
# change is blamed for what it broke; the long form is where new examples are looked for.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None)
settings.register_profile(
    "long", settings.get_profile("default"), max_examples=2_000, stateful_step_count=200
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--long`."""
    parser.addoption(
        "--long",
        action="store_true",
        help="run tests marked `long` too, and many more Hypothesis examples of every test",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One worker more than there are cores: many tests wait for processes that they start. A worker
    that is done takes over what another one still has before it."""
    config.option.dist = "worksteal"
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # as xdist itself reads it
    ours = getattr(os, "sched_getaffinity", None)  # not everywhere
    return 1 + (len(ours(0)) if ours else os.cpu_count() or 1)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the Hypothesis profile; `--hypothesis-profile` still overrides it."""
    if config.getoption("--long"):
        settings.load_profile("long")
    else:
        settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, visibly, what only the long form runs."""
    if config.getoption("--long"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="needs --long"))


@pytest.fixture(scope="session", autouse=True)
def no_real_models() -> Iterator[None]:
    """Refuse every real model, here and in the processes that tests start."""
    with pytest.MonkeyPatch.context() as patch, forbid_real_models():
        patch.setenv(ENVIRONMENT, "1")
        yield


class NetworkRefusedError(RuntimeError):
    """A test tried to leave this machine.

    Not an OSError: code under test retries those, and the test would pass by way of the retry.
    """


def _is_local(host: object) -> bool:
    """Whether `host` is this machine, by name or by number."""
    if host is None or host in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    # A wildcard is what a server binds to and a client may name to reach it.
    return address.is_loopback or address.is_unspecified


@pytest.fixture(autouse=True)
def refused_connections(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """Refuse every connection and name lookup that leaves this machine; fail the test for it.

    Yields the refused hosts. The test fails at its end if any is left in the list, so that code
    which catches the refusal cannot hide it. Processes a test starts are not covered.
    """
    refused: list[str] = []

    def check(host: object) -> None:
        if isinstance(host, bytes):  # Trio looks names up in their IDNA form
            host = host.decode("ascii", "replace")
        if _is_local(host):
            return
        refused.append(str(host))
        raise NetworkRefusedError(
            f"{request.node.nodeid} tried to reach {host!r}: tests have no network. "
            "Run a server on 127.0.0.1, or use a scripted model or transport"
        )

    def guarded(name: str) -> None:
        real = getattr(socket.socket, name)

        def call(self: socket.socket, *args: Any) -> Any:
            # The address is the last argument of connect, connect_ex and sendto alike.
            if self.family in (socket.AF_INET, socket.AF_INET6):
                check(args[-1][0])
            return real(self, *args)

        monkeypatch.setattr(socket.socket, name, call)

    for name in ("connect", "connect_ex", "sendto"):
        guarded(name)

    real_getaddrinfo = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        # A literal address needs no lookup; connecting to it is refused above.
        if not kwargs.get("flags", 0) & socket.AI_NUMERICHOST and not (
            len(args) == 5 and args[4] & socket.AI_NUMERICHOST
        ):
            check(host)
        return real_getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield refused
    if refused:
        pytest.fail(f"{request.node.nodeid} tried to reach {', '.join(refused)}", pytrace=False)
