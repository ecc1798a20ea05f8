# SPDX-License-Identifier: MPL-2.0
"""A whole example, from text of the platform to an object: an object, in the order of its keys and as JSON text."""

import json
import os

import pytest

from support.handmade_node import COLUMNS, HandmadeNode, U, canonical

ZONEADM = "-:U:installed:/zones/U:U:bhyve:excl:42"
SYSINFO = '{"UUID":"44454c4c-3300-1052-8050-b7c04f4d4232","Live Image":"20260312T000000Z"}'
ZFS = """
lz4 1767225600 18446744073709551615 /zones/U zones/U 12705071104 131072 1073741824 1073741824 18446744073709551615 filesystem 0 - - - 163840 off
- 1772800000 - - zones/U@vmsnap-monday - - - - - snapshot - 0 - - 52428 -
off 1767225601 - - zones/U/disk0 - - - 11075584000 18446744073709551615 volume 5000000 - 8192 10737418240 22599680 -
off 1767225601 - - zones/U/disk1 - - - 555745280 18446744073709551615 volume 0 - 8192 536870912 12288 -
"""  # noqa: E501
XML = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE zone PUBLIC "-//Sun Microsystems Inc//DTD Zones//EN" "file:///usr/share/lib/xml/dtd/zonecfg.dtd.1">
<zone name="U" zonepath="/zones/U" autoboot="true" brand="bhyve" ip-type="exclusive" limitpriv="default,-proc_fork" debugid="42">
  <attr name="vm-version" type="string" value="1"/>
  <attr name="create-timestamp" type="string" value="2026-01-01T00:00:00.123Z"/>
  <rctl name="zone.max-physical-memory">
    <rctl-value priv="privileged" limit="2415919104" action="deny"/>
  </rctl>
  <attr name="alias" type="string" value="ZGItMDE="/>
  <attr name="ram" type="string" value="1024"/>
  <attr name="flexible-disk-size" type="string" value="20480"/>
  <device match="/dev/zvol/rdsk/zones/U/disk1">
    <net-attr name="boot" value="false"/>
    <net-attr name="model" value="virtio"/>
    <net-attr name="size" value="512"/>
  </device>
  <device match="/dev/zvol/rdsk/zones/U/disk0">
    <net-attr name="boot" value="true"/>
    <net-attr name="model" value="virtio"/>
    <net-attr name="image-size" value="10240"/>
  </device>
  <network physical="net0" mac-addr="2:8:20:a1:b2:c3" vlan-id="0" global-nic="external">
    <net-attr name="ips" value="192.0.2.10/24,addrconf"/>
    <net-attr name="primary" value="true"/>
  </network>
</zone>
"""  # noqa: E501
OBJECT = """{
  "zonename": "U", "autoboot": true, "brand": "bhyve", "limit_priv": "default,-proc_fork", "v": 1,
  "create_timestamp": "2026-01-01T00:00:00.123Z", "max_physical_memory": 2304, "alias": "db-01", "ram": 1024,
  "flexible_disk_size": 20480, "device": null,
  "disks": [
    {"path": "/dev/zvol/rdsk/zones/U/disk0", "boot": true, "model": "virtio", "image_size": 10240,
     "zfs_filesystem": "zones/U/disk0", "zpool": "zones", "size": 10240, "compression": "off", "refreservation": 10563,
     "block_size": 8192},
    {"path": "/dev/zvol/rdsk/zones/U/disk1", "boot": false, "model": "virtio",
     "zfs_filesystem": "zones/U/disk1", "zpool": "zones", "size": 512, "compression": "off", "refreservation": 530,
     "block_size": 8192}],
  "nics": [
    {"interface": "net0", "mac": "2:8:20:a1:b2:c3", "vlan_id": 0, "nic_tag": "external",
     "ips": ["192.0.2.10/24", "addrconf"], "primary": true}],
  "uuid": "U", "zone_state": "installed", "zonepath": "/zones/U", "hvm": true, "zoneid": null, "zonedid": 42,
  "last_modified": "2026-03-13T12:01:57.000Z", "exit_status": 13, "exit_timestamp": "2026-03-13T12:01:57.521Z",
  "resolvers": [], "firewall_enabled": false, "server_uuid": "44454c4c-3300-1052-8050-b7c04f4d4232",
  "platform_buildstamp": "20260312T000000Z", "state": "stopped", "customer_metadata": {}, "internal_metadata": {},
  "routes": {}, "tags": {"10": true, "role": "db"}, "quota": 1, "zfs_root_compression": "lz4",
  "zfs_root_recsize": 131072, "zfs_filesystem": "zones/U", "zpool": "zones",
  "snapshots": [{"name": "monday", "size": 0.049999237060546875, "created_at": "2026-03-06T12:26:40.000Z"}],
  "free_space": 9723
}"""


def full(text):
    """The example writes U for the UUID."""
    return text.replace('"U"', f'"{U}"').replace("zones/U", "zones/" + U).replace(":U:", f":{U}:")


WANTED = json.loads(full(OBJECT))


@pytest.fixture
def node(tmp_path):
    node = HandmadeNode(tmp_path)
    node.zone_line(full(ZONEADM))
    node.sysinfo(SYSINFO)
    node.file(f"etc/zones/{U}.xml", full(XML))
    node.last_exited("1773403317.52104 3328\n")
    node.config("tags.json", '{"role":"db","10":true}')
    for path in (f"etc/zones/{U}.xml", f"zones/{U}/lastexited", f"zones/{U}/config/tags.json"):
        os.utime(node.root / path, ns=(0, 1773403317521000000))
    for row in full(ZFS).strip().splitlines():
        node.row(dict(zip(COLUMNS, row.split(" "), strict=True)))
    return node


def test_object_of_a_single_load_is_the_one_of_the_example(node):
    assert canonical(node.loader().load(U)) == canonical(WANTED)


def test_object_of_a_full_load_is_the_one_of_the_example(node):
    loaded = node.loader().load_all()
    assert (list(loaded.vms), loaded.errors, loaded.warnings) == ([U], {}, [])
    assert canonical(loaded.vms[U]) == canonical(WANTED)


def test_json_text_is_the_one_of_the_example_with_keys_in_the_order_of_the_original(node):
    assert json.dumps(node.loader().load(U)) == json.dumps(WANTED)
    assert json.dumps(node.loader().load_all().vms[U]) == json.dumps(WANTED)
