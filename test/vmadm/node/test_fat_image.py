# SPDX-License-Identifier: MPL-2.0
"""The FAT16 volume for cloud-init, read by a reader of its own, and by mtools."""

import shutil
import subprocess

import pytest

from support.deadlines import SOON
from support.fatreader import read_volume
from vmadm.node.fatimage import CLUSTER, CLUSTERS, DoesNotFit, image

FILES = {
    "meta-data": b"instance-id: x\n",
    "empty": b"",
    "exactly-13-ch": b"a" * CLUSTER,
    "network-config": bytes(range(256)) * 100,
    "user-data": "ü\n".encode(),
}


@pytest.mark.pure
def test_files_come_back():
    volume = read_volume(image("CIDATA", 1, FILES))
    assert (volume.label, volume.size, volume.files) == ("CIDATA", 16 << 20, FILES)


@pytest.mark.pure
def test_same_files_give_the_same_bytes_and_no_more_than_is_needed():
    content = image("CIDATA", 1, FILES)
    assert content == image("CIDATA", 1, FILES)
    assert content != image("CIDATA", 2, FILES)
    assert len(content) % 512 == 0
    assert len(content) < 128 << 10


@pytest.mark.pure
def test_volume_that_is_full_and_one_that_would_be_more_than_that():
    most = {"user-data": b"x" * (CLUSTERS * CLUSTER)}
    assert read_volume(image("CIDATA", 1, most)).files == most
    assert len(image("CIDATA", 1, most)) <= 16 << 20
    with pytest.raises(DoesNotFit):
        image("CIDATA", 1, {**most, "meta-data": b"x"})


@pytest.mark.more
def test_mtools_reads_the_volume(tmp_path):
    assert shutil.which("mdir"), "install mtools"
    volume = tmp_path / "volume"
    content = image("CIDATA", 0x1234ABCD, FILES)
    volume.write_bytes(content.ljust(16 << 20, b"\0"))

    def mtools(*words):
        return subprocess.run(words, capture_output=True, check=True, timeout=SOON).stdout

    listing = mtools("mdir", "-i", str(volume), "::").decode()
    assert " Volume in drive : is CIDATA" in listing
    assert "1234-ABCD" in listing
    names = mtools("mdir", "-b", "-i", str(volume), "::").decode().split()
    assert sorted(names) == sorted(f"::/{name}" for name in FILES)
    for name, text in FILES.items():
        assert mtools("mtype", "-i", str(volume), f"::{name}") == text
