# SPDX-License-Identifier: MPL-2.0
"""/metrics counts what happened, and what lies in docs/monitoring fits it. The text is read by Prometheus' own parser
and promtool, the expected values come from what the test did."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.running_daemon import CHECKOUT, RunningDaemon, eventually
from support.transacting import Transacting
from vminfod.meters import Histogram

MONITORING = Path(CHECKOUT) / "docs" / "monitoring"
WITHOUT_SAMPLES = {"vminfod_events_total", "vminfod_refresh_found_total"}  # until the first is counted
NAME = re.compile(r"\b(?:vminfod|process)_[a-z_]+")


def scraped(daemon):
    """Name and labels of each sample -> its value."""
    answer = daemon.get("/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = text_string_to_metric_families(answer.body.decode())
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def test_what_happened_is_counted(node, daemon):
    before = scraped(daemon)
    vm = next(vm for vm in daemon.vms() if vm["state"] == "running" and "zfs_filesystem" in vm)
    with_stream = daemon.events()
    for quota in (11, 12, 13):
        node.run("zfs", "set", f"quota={quota}g", vm["zfs_filesystem"])
        with_stream.until(lambda event, quota=quota: event["vm"].get("quota") == quota)
    for _ in range(5):
        daemon.get("/ping")
    daemon.get("/vms/no-such-vm")
    after = scraped(daemon)

    def grown(name, **labels):
        key = (name, *sorted(labels.items()))
        return after[key] - before.get(key, 0)

    assert grown("vminfod_events_total", type="modify", source="zfs") == 3
    assert grown("vminfod_event_latency_seconds_count") == 3
    assert grown("vminfod_revision") == 3
    assert grown("vminfod_requests_total", answer="ready", status="200") >= 5
    assert grown("vminfod_requests_total", answer="route", status="404") == 1
    assert grown("vminfod_task_run_seconds_count") >= 3
    assert grown("vminfod_task_wait_seconds_count") == grown("vminfod_task_run_seconds_count")
    assert after["vminfod_listeners",] == before["vminfod_listeners",] + 1
    served = daemon.vms()
    running = sum(one["state"] == "running" and one["brand"] == vm["brand"] for one in served)
    assert after["vminfod_vms", ("brand", vm["brand"]), ("state", "running")] == running
    assert sum(value for (name, *_), value in after.items() if name == "vminfod_vms") == len(served)
    assert after["vminfod_child_up", ("child", "zonewatcher")] == 1
    assert after["vminfod_healthy",] == 1
    status = daemon.status()
    assert after["process_start_time_seconds",] < Path(f"/proc/{status['pid']}").stat().st_ctime + 5
    assert after["process_resident_memory_bytes",] == pytest.approx(status["memory"]["rss"], rel=0.3)


def test_what_goes_wrong_is_shown(node):
    """A zone that cannot be read, and a change that no event reported."""
    with RunningDaemon(node.root, "--refresh-interval", "0.2").start() as daemon:
        eventually("a refresh", lambda: scraped(daemon)["vminfod_refresh_seconds_count",] >= 1)
        vm = next(vm for vm in daemon.vms() if vm["brand"] == "joyent")
        (Path(node.root) / f"etc/zones/{vm['zonename']}.xml").write_text("<zone")
        eventually("it is counted", lambda: scraped(daemon)["vminfod_zones_unreadable",] == 1)
        eventually("it is unwell", lambda: scraped(daemon)["vminfod_healthy",] == 0)


def test_an_open_transaction_is_a_gauge(node, daemon):
    vm = daemon.vms()[0]
    states = ("vminfod_transactions", ("state", "open"))
    writer = Transacting(node.root)
    writer.open(vm["uuid"])
    assert scraped(daemon)[states] == 1
    writer.close()
    eventually("it has ended", lambda: scraped(daemon)[states] == 0)


@pytest.mark.pure
def test_a_histogram_counts_up_to_and_with_each_bound():
    measured = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 1.0, 7.0):
        measured.add(seconds)
    assert measured.cumulative() == [("0.1", 2), ("1.0", 4), ("+Inf", 5)]
    assert measured.total == pytest.approx(8.65)


def names_of(daemon):
    return {name for name, *_ in scraped(daemon)}


def test_the_page_lists_each_metric_and_no_other(quiet_daemon):
    page = (MONITORING / "README.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| (?:gauge|counter|histogram)", page, re.M)
    listed = {name for row in rows for name in NAME.findall(row)}
    base = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names_of(quiet_daemon)}
    assert base | WITHOUT_SAMPLES == listed


def test_alerts_and_dashboard_ask_for_metrics_that_there_are(quiet_daemon):
    there = names_of(quiet_daemon) | WITHOUT_SAMPLES
    for name in ("alerts.yml", "dashboard.json"):
        text = (MONITORING / name).read_text()
        text = text.replace("label_values(vminfod_info", "")
        asked = {word for line in re.findall(r'"?expr"?: (.*)', text) for word in NAME.findall(line)}
        assert asked, name
        assert asked <= there, name


@pytest.mark.more
def test_prometheus_takes_what_is_scraped(quiet_daemon):
    text = quiet_daemon.get("/metrics").body
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


@pytest.mark.more
@pytest.mark.parametrize(
    "words", ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts-test.yml"]
)
def test_prometheus_takes_the_configuration(words):
    checked = subprocess.run(["promtool", *words.split()], cwd=MONITORING, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.more
def test_every_question_of_the_dashboard_can_be_asked(tmp_path):
    """As recording rules: promtool parses them."""
    board = json.loads((MONITORING / "dashboard.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"dashboard:{number}", "expr": one.replace("$node", ".*").replace("$__rate_interval", "1m")}
        for number, one in enumerate(asked)
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
