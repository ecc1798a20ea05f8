# SPDX-License-Identifier: MPL-2.0
"""Who is at the other end of a Unix socket, as each system says it, and where none does."""

import os
import socket
import subprocess
import sys

import pytest

from vminfod.serving import peercredentials
from vminfod.serving.peercredentials import Peer


class FakeFunction:
    """As ctypes has them: its types can be set."""

    def __init__(self, act):
        self.act = act

    def __call__(self, *words):
        return self.act(*words)


class FakeLibc:
    """What libc of illumos says; `freed`: the credentials that were given back."""

    def __init__(self, result=0, pid=4711, uid=0):
        self.freed = []
        self.getpeerucred = FakeFunction(lambda fd, where: self._give(result, where))
        self.ucred_getpid = FakeFunction(lambda credentials: pid if credentials.value == 99 else None)
        self.ucred_geteuid = FakeFunction(lambda credentials: uid if credentials.value == 99 else None)
        self.ucred_free = FakeFunction(lambda credentials: self.freed.append(credentials.value))

    @staticmethod
    def _give(result, where):
        if result == 0:
            where._obj.value = 99
        return result


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="another system's way")
def test_process_that_connected_is_known(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"
        with subprocess.Popen([sys.executable, "-c", script, path]) as process:
            sock, _ = listening.accept()
            assert peercredentials.of(sock) == Peer(process.pid, os.getuid())
            sock.close()


def test_socket_of_the_network_says_nothing_that_makes_sense():
    with socket.socket() as sock:
        assert peercredentials.of(sock).pid is None


@pytest.mark.pure
def test_on_illumos_libc_is_asked_and_gets_its_memory_back():
    libc = FakeLibc()
    assert peercredentials._by_ucred(libc, 5) == Peer(4711, 0)
    assert libc.freed == [99]


@pytest.mark.pure
@pytest.mark.parametrize(
    ("libc", "peer"),
    [(FakeLibc(result=-1), Peer()), (FakeLibc(pid=-1, uid=-1), Peer()), (FakeLibc(uid=-1), Peer(4711))],
)
def test_what_illumos_does_not_say_is_not_known(libc, peer):
    assert peercredentials._by_ucred(libc, 5) == peer
