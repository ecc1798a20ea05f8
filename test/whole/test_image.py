# SPDX-License-Identifier: MPL-2.0
"""What `make install`, `make vendor` and `make dist` lay out for a platform image: no more and no less than
docs/platform-image.md says, and it runs from there with nothing of the checkout."""

import glob
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from mockcn import process
from support.ports import free_port
from support.running_daemon import CHECKOUT, RunningDaemon, eventually

CLEAN = {"PATH": "/usr/bin:/bin"}  # and nothing else: no HOME, no PYTHON*
IMPORTED = re.compile(r"^# (?:code object from|.* matches) '?(/[^'\n]+?)'?$", re.M)  # as python -v says it
SUPPORTED = re.compile(r"Python 3\.(1[0-9])\.")


def run(words, **more):
    """The ended process, with what it printed."""
    return subprocess.run(words, capture_output=True, text=True, timeout=600, **more)


def lay_out(script, *words):
    done = run([os.path.join(CHECKOUT, "image", script), *words])
    assert done.returncode == 0, done.stderr
    return Path(words[0])


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """An empty root with the product in it, without what the daemon is built on."""
    return lay_out("install", str(tmp_path_factory.mktemp("image")), sys.executable)


def files(folder):
    """The path of each file and link below a folder, as the image would have it; without compiled modules."""
    found = (path for path in Path(folder).rglob("*") if path.is_symlink() or path.is_file())
    return {f"/{path.relative_to(folder)}" for path in found if "__pycache__" not in path.parts}


def test_an_image_gets_what_the_checkout_has_in_the_places_of_the_platform(image):
    tracked = run(["git", "ls-files"], cwd=CHECKOUT).stdout.split()
    expected = {f"/{path}" for path in tracked if path.startswith("usr/")} | {
        "/usr/sbin/vmadm",
        "/usr/sbin/vminfo",
        "/usr/sbin/zoneevent",
        "/usr/vm/lib/requirements.lock",
        "/lib/svc/method/vminfod",
        "/lib/svc/manifest/system/system-vminfod.xml",
        "/usr/share/bash-completion/completions/vmadm",
        "/usr/share/bash-completion/completions/vminfo",
        "/usr/share/zsh/site-functions/_vmadm",
    }
    expected |= {f"/usr/share/{path}" for path in tracked if path.startswith("man/")}
    assert files(image) == expected


def test_what_is_a_program_may_be_run_and_nothing_may_be_written_by_others(image):
    for path in files(image):
        mode = os.stat(image / path[1:]).st_mode  # of what a link leads to: all of them lead to something
        program = "/sbin/" in path or "/method/" in path
        assert stat.S_IMODE(mode) == (0o755 if program else 0o644), path


def test_links_lead_within_the_image(image):
    for name in ("vmadm", "vminfo", "zoneevent"):
        assert os.readlink(image / "usr/sbin" / name) == f"../vm/sbin/{name}"


def test_every_module_is_compiled_and_nothing_names_the_place_where_it_was_made(image):
    modules = [path for path in files(image) if path.startswith("/usr/vm/lib/") and path.endswith(".py")]
    for path in modules:
        folder, name = os.path.split(path[1:])
        [compiled] = (image / folder / "__pycache__").glob(f"{name.removesuffix('.py')}.*.pyc")
        assert str(image).encode() not in compiled.read_bytes()
    for path in files(image):
        assert CHECKOUT.encode() not in (image / path[1:]).read_bytes(), path


@pytest.mark.more
def test_an_archive_holds_what_an_installation_has(image, tmp_path):
    made = subprocess.run(
        ["make", "--no-print-directory", "dist", f"PYTHON={sys.executable}"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    archive = os.path.join(CHECKOUT, made.stdout.split()[-1])
    with tarfile.open(archive) as members:
        members.extractall(tmp_path)
        assert {(m.uid, m.gid, m.mtime) for m in members.getmembers()} == {(0, 0, 0)}
    assert files(tmp_path) == files(image)
    os.unlink(archive)


def test_tools_of_an_image_need_nothing_beside_it(image, quiet_node, quiet_daemon):
    environ = {**CLEAN, "VMADM_ROOT": quiet_node.root, "VMINFOD_PORT": str(quiet_daemon.port)}
    listed = run([image / "usr/sbin/vmadm", "list", "-H"], env=environ, cwd="/")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert len(listed.stdout.splitlines()) == len(quiet_daemon.get("/vms").json())


def test_each_script_says_what_it_lacks():
    for script in ("install", "vendor"):
        failed = subprocess.run([os.path.join(CHECKOUT, "image", script), ""], capture_output=True, text=True)
        assert failed.returncode == 2
        assert failed.stderr == f"{script}: say where to: make {script} DESTDIR=FOLDER\n"


def run_daemon(image, python=sys.executable, *words):
    return run([python, "-ISX", "utf8", image / "usr/vm/sbin/vminfod", *words])


def test_daemon_without_its_modules_says_which_in_one_line(image):
    failed = run_daemon(image)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert re.fullmatch(
        r"vminfod: the Python module gevent is not there for \S+ \(3\.\d+\): docs/platform-image.md .*\n",
        failed.stderr,
    )


def test_daemon_whose_modules_are_for_another_python_says_so_in_one_line(image, tmp_path):
    """Each of the ways in which a compiled module is found, or is not."""
    root = tmp_path / "image"
    shutil.copytree(image, root, symlinks=True)
    package = root / "usr/vm/lib/vendor/gevent"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from gevent import _inner\n")
    (package / "_inner.cpython-39-x86_64-linux-gnu.so").write_bytes(b"")
    failed = run_daemon(root)
    assert failed.returncode == 1
    built = "built for cpython-39, does not fit"
    assert failed.stderr.startswith(f"vminfod: the Python module gevent in {package}, {built}")
    assert failed.stderr.count("\n") == 1
    (package / "__init__.py").write_text("")
    (package.parent / "bottle.py").write_text("")
    (package.parent / "ujson.cpython-39-x86_64-linux-gnu.so").write_bytes(b"")
    failed = run_daemon(root)
    assert failed.stderr.startswith(f"vminfod: the Python module ujson in {package.parent}, {built}")
    (package.parent / "ujson.so").write_bytes(b"no library at all")
    failed = run_daemon(root)
    assert failed.stderr.startswith(f"vminfod: the Python module ujson in {package.parent}")
    assert failed.stderr.count("\n") == 1


def test_daemon_is_isolated_from_whoever_starts_it(image, tmp_path):
    """Not from a folder that it happens to be started in, nor from PYTHONPATH, a module comes in."""
    for name in ("gevent", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('led astray')\n")
    (tmp_path / "python3").symlink_to(sys.executable)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([image / "usr/vm/sbin/vminfod"], env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert "led astray" not in done.stderr
    assert done.returncode == 1


def pythons():
    """Those on this machine that the project supports, one of each version."""
    by_pyenv = glob.glob(os.path.expanduser("~/.pyenv/versions/*/bin/python3"))
    names = [*glob.glob("/usr/bin/python3.*"), *by_pyenv, sys.executable]
    found = {}
    for name in names:
        said = subprocess.run([name, "--version"], capture_output=True, text=True).stdout
        if SUPPORTED.match(said) and not name.endswith("-config"):
            found.setdefault(SUPPORTED.match(said)[1], os.path.realpath(name))
    return found


@pytest.mark.more
@pytest.mark.parametrize("minor", range(10, 15))
def test_an_image_serves_a_node_with_nothing_of_the_checkout_on_any_path(minor, tmp_path, root):
    python = pythons().get(str(minor))
    if python is None:
        pytest.skip(f"there is no Python 3.{minor} here")
    image = lay_out("install", str(tmp_path / "image"), python)
    lay_out("vendor", str(image), python, f"{sys.executable} -m pip --python {python}")
    # -v: each module that is imported is named, with its file.
    runner = tmp_path / "bin/python3"
    runner.parent.mkdir()
    runner.write_text(f'#!/bin/sh\nexec {python} -v "$@"\n')
    runner.chmod(0o755)
    port = free_port()
    environ = {"PATH": f"{runner.parent}:/usr/bin:/bin"}
    log = tmp_path / "log"
    with process.start(root, vms=5) as node, open(log, "wb") as into:
        words = [image / "usr/vm/sbin/vminfod", "--root", node.root, "--port", str(port)]
        with subprocess.Popen(words, env=environ, cwd="/", stdout=into, stderr=into) as started:
            try:
                daemon = RunningDaemon(node.root, port=port)
                eventually("it serves", lambda: daemon.listens() or started.poll() is not None)
                assert len(daemon.get("/vms").json()) == 5
                uuid = daemon.get("/vms").json()[0]["uuid"]
                vmadm = [python, "-IS", image / "usr/vm/sbin/vmadm", "update", uuid, "alias=new"]
                tool = run(vmadm, env={**CLEAN, "VMADM_ROOT": node.root}, cwd="/")
                assert tool.returncode == 0, tool.stderr
                assert "new" in [vm.get("alias") for vm in daemon.get("/vms").json()]
            finally:
                started.terminate()
        assert started.returncode == 0
    places = set(IMPORTED.findall(log.read_text()))
    assert any("/vendor/gevent/" in place for place in places)
    standard = run([python, "-Ic", "import sysconfig as s; print(s.get_path('stdlib'))"]).stdout.strip()
    assert {place for place in places if not place.startswith((str(image), standard))} == set()
    assert not [place for place in places if "site-packages" in place or "dist-packages" in place]


def test_a_daemon_that_has_ended_leaves_nothing_that_an_older_platform_would_mind(root):
    """docs/platform-image.md, "Going back": what lies on the disk when it has stopped."""
    with process.start(root, vms=3) as node:
        before = files(node.root)
        with RunningDaemon(node.root).start() as daemon:
            daemon.get("/vms")
        assert files(node.root) - before == set()
