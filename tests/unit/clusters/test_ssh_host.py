"""A host as it is seen from here."""

from __future__ import annotations

import asyncio
import functools
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from ssh_server import SSHServer

from prs_dask import SSHTarget
from prs_dask.clusters.host_facts import facts
from prs_dask.clusters.ssh_host import Host, HostProblem

pytestmark = pytest.mark.usefixtures("no_leaks")


def told(target: SSHTarget, ask: Callable[[Host], Awaitable[Any]] | None = None) -> Any:
    """What a host tells, or what is wrong with it."""

    async def tell() -> Any:
        host = Host(target.ssh_hosts[0], target)
        try:
            await host.connect()
            return await (ask or Host.facts)(host)
        except HostProblem as problem:
            return str(problem)
        finally:
            host.close()

    return tell()


def other_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


ANOTHER = "its key is another one than ~/.ssh/known_hosts has: .*ssh-keygen -R '{}' -f ~/.ssh/known_hosts"


def test_a_key_that_has_changed_is_told_as_changed_under_the_name_that_known_hosts_has(home: Path) -> None:
    async def main() -> None:
        async with SSHServer(home) as server:
            here = f"[127.0.0.1]:{server.port}"
            server.knows(other_key(), here)
            assert_matches(await told(server.target(f"127.0.0.1:{server.port}")), ANOTHER.format(here))
            server.calls("gpu")
            assert_matches(await told(server.target("gpu")), ANOTHER.format(here))
            server.knows(
                other_key(), "127.0.0.1"
            )  # of its other port, which counts for all that have none of their own
            assert_matches(await told(server.target("gpu")), ANOTHER.replace("'", "").format("127.0.0.1"))
            server.calls("gpu", "HostKeyAlias node7")
            server.knows(other_key(), f"[node7]:{server.port}")
            assert_matches(await told(server.target("gpu")), ANOTHER.format(f"[node7]:{server.port}"))
            server.knows(server.key, f"[node7]:{server.port}")
            assert await told(server.target("gpu")) == facts()

    asyncio.run(main())


def test_a_host_that_has_only_a_key_of_another_kind_now_is_told_as_changed(home: Path) -> None:
    async def main() -> None:
        async with SSHServer(home, "ecdsa-sha2-nistp256") as server:
            here = f"[127.0.0.1]:{server.port}"
            server.knows(other_key(), here)
            assert_matches(await told(server.target(f"127.0.0.1:{server.port}")), ANOTHER.format(here))

    asyncio.run(main())


def test_a_key_that_is_revoked_is_not_to_be_added(home: Path) -> None:
    async def main() -> None:
        async with SSHServer(home) as server:
            server.knows(server.key, "*", mark="@revoked ")
            assert await told(server.target(f"127.0.0.1:{server.port}")) == "its key is revoked in ~/.ssh/known_hosts"

    asyncio.run(main())


def test_a_host_that_is_not_known_is_told_with_what_adds_it(home: Path) -> None:
    async def main() -> None:
        async with SSHServer(home) as server:
            server.calls("gpu")
            scan = f"ssh-keyscan -p {server.port} 127.0.0.1 >> "
            assert (await told(server.target("gpu"))).endswith(f"{scan}~/.ssh/known_hosts")
            server.calls("gpu", "UserKnownHostsFile ~/.ssh/others")
            (home / ".ssh/others").touch()
            assert (await told(server.target("gpu"))).endswith(f"{scan}~/.ssh/others")
            server.calls("gpu", "HostKeyAlias node7")
            assert (await told(server.target("gpu"))).endswith("what the host says of itself: ssh gpu")
            server.calls("gpu", "UserKnownHostsFile none")
            assert '"UserKnownHostsFile none" in ~/.ssh/config' in await told(server.target("gpu"))

    asyncio.run(main())


def test_a_key_of_a_jump_host_is_not_told_as_the_hosts_own(home: Path) -> None:
    async def main() -> None:
        async with SSHServer(home) as server:
            server.calls("gpu", f"ProxyJump localhost:{server.port}")
            server.knows(other_key(), f"[127.0.0.1]:{server.port}")
            said = await told(server.target("gpu"))
            assert said.startswith(
                f"on the way to it, by localhost:{server.port}: Host key is not trusted for host local"
            )
            assert said.endswith("; log in once with: ssh gpu")

    asyncio.run(main())


def test_the_port_of_an_alias_is_told_where_nobody_listens(home: Path) -> None:
    async def main() -> None:
        async with SSHServer(home) as server:
            server.calls("gpu")
        message = await told(server.target("gpu"))
        assert message.startswith(f"no SSH server listens there on port {server.port}:")

    asyncio.run(main())


@pytest.mark.parametrize("python", ["~/my venv/bin/python", "{home}/my venv/bin/python", "~/it's/python"])
def test_python_may_lie_below_the_home_folder_there_and_have_spaces_in_its_path(home: Path, python: str) -> None:
    path = Path(python.format(home=home).replace("~", str(home)))
    path.parent.mkdir(parents=True)
    path.symlink_to(sys.executable)

    async def main() -> None:
        async with SSHServer(home) as server:
            server.knows(server.key, "*")
            target = server.target(f"127.0.0.1:{server.port}", python=python.format(home=home))
            found = await told(target)
            assert found["Python"] == facts()["Python"], found

    asyncio.run(main())


def test_secrets_go_to_no_terminal_whatever_the_users_configuration_says(home: Path) -> None:
    python = home / "python"
    python.write_text('#!/bin/sh\ntest -t 0 || read secret\necho "got $secret" >&2\n')
    python.chmod(0o755)

    async def main() -> None:
        async with SSHServer(home) as server:
            server.knows(server.key, "*")
            server.calls("gpu", "RequestTTY force")
            start = functools.partial(Host.start, spec={"role": "scheduler", "name": "n"})
            said = await told(server.target("gpu", python=str(python)), start)
            assert said == 'its scheduler ended before it was up; it said: got {"role": "scheduler", "name": "n"}'
            assert server.terminals == [None]

    asyncio.run(main())


def test_modules_of_the_home_folder_are_not_run(home: Path) -> None:
    for module in ("platform", "json"):
        (home / f"{module}.py").write_text("raise SystemExit('a module of the home folder')")

    async def main() -> None:
        async with SSHServer(home) as server:
            server.knows(server.key, "*")
            assert await told(server.target(f"127.0.0.1:{server.port}")) == facts()

    asyncio.run(main())


def assert_matches(text: str, pattern: str) -> None:
    expected = ".*".join(re.escape(part) for part in pattern.split(".*"))
    assert re.search(expected, text), text


def test_a_python_that_ends_before_anything_was_said_to_it_is_told_by_its_own_words(home: Path) -> None:
    class Hasty(SSHServer):
        async def _run(self, process: Any) -> None:
            process.stderr.write(b"cannot\n")
            process.exit(3)

    async def main() -> None:
        async with Hasty(home) as server:
            server.knows(server.key, f"[127.0.0.1]:{server.port}")
            target = server.target(f"127.0.0.1:{server.port}", python="/python")
            for _ in range(20):
                assert_matches(await told(target), "/python there did not run (it ended with 3 and said: cannot)")

    asyncio.run(main())
