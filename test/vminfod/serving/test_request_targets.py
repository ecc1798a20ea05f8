# SPDX-License-Identifier: MPL-2.0
"""A path is normalised once, and a Host is ours or foreign."""

import pytest

from vminfod.serving.target import Target, is_own_host, target_of

pytestmark = pytest.mark.pure

LISTENS_ON = frozenset({"10.0.0.5", "10.0.0.7", "fd00::1", "0.0.0.0"})


@pytest.mark.parametrize(
    "url, path, sent_key",
    [
        ("/vms/a", "/vms/a", "a"),
        ("//vms/./x/../a%20b/more?q=1", "/vms/a b", "a%20b"),
        ("http://[x/vms/a://b", "/vms/a:", "a:"),
        ("//[b://", "/[b:", ""),
        ("x://", "/", ""),
        ("/vms/a%2Fb", "/vms/a/b", "a%2Fb"),
        ("/vms%2Fa", "/", ""),
        ("/ping/more", "/ping", ""),
        ("http://localhost/status?x", "/status", ""),
        ("/vms/%ff", "/vms/\ufffd", "%ff"),
        ("", "/", ""),
    ],
)
def test_path_is_normalised_before_it_is_decoded(url, path, sent_key):
    assert target_of(url) == Target(path, sent_key)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "localhost",
        "LOCALHOST:9090",
        "localhost.:1",
        "127.0.0.1",
        "127.9.9.9:8",
        "[::1]",
        "[::1]:9090",
        "10.0.0.5:22",
        "10.0.0.7",
        "[FD00:0::1]:9090",
        "[::ffff:127.0.0.1]",
        "node.localhost.:80",
    ],
)
def test_own_hosts(host):
    assert is_own_host(host, LISTENS_ON)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9090",
        "localhost.evil.example",
        "10.0.0.6",
        "localhost:x",
        "a,localhost",
        "[::2]",
        "evil.example,a.localhost",
        "evil.example a.localhost",
        "evil@localhost",
        "0.0.0.0",
        "[::ffff:10.0.0.6]",
    ],
)
def test_foreign_hosts(host):
    assert not is_own_host(host, LISTENS_ON)
