# SPDX-License-Identifier: MPL-2.0
"""What cloud-init is told of a VM."""

import hashlib

import pytest

from vmadm.payload.cloudinit import digest, files

pytestmark = pytest.mark.pure

U = "11111111-2222-4333-8444-555555555555"
NIC = {"interface": "net0", "mac": "90:B8:D0:00:00:01", "ips": ["10.0.0.2/24"]}


def network(*nics, **vm):
    return files({"uuid": U, "nics": list(nics), **vm})["network-config"]


def test_vm_without_anything():
    assert files({"uuid": U}) == {
        "meta-data": f"# cloud-init meta-data\ninstance-id: {U}\nlocal-hostname: {U}\n",
        "user-data": "#cloud-config\n{}\n",
    }


@pytest.mark.parametrize(
    ("vm", "host"), [({"alias": "a"}, "a"), ({"alias": "a", "hostname": "h"}, "h"), ({"hostname": ""}, U)]
)
def test_host_name(vm, host):
    assert files({"uuid": U, **vm})["meta-data"].endswith(f"local-hostname: {host}\n")


def test_customer_says_any_file_to_the_letter():
    own = {f"cloud-init:{name}": f"{name} \r\n\n" for name in ("meta-data", "user-data", "vendor-data")}
    own["cloud-init:network-config"] = "no network"
    found = files({"uuid": U, "nics": [NIC], "customer_metadata": {**own, "cloud-init:other": "x"}})
    assert found == {name.removeprefix("cloud-init:"): text for name, text in own.items()}


def test_network_of_several_nics():
    primary = {**NIC, "primary": True, "ips": ["10.0.0.2/24", "fd00::2/64", "addrconf"]}
    primary["gateways"] = ["10.0.0.254", "fd00::1", "10.0.0.1"]
    second = {"interface": "net1", "mac": "90:b8:d0:00:00:02", "ips": ["dhcp"], "gateways": ["10.9.9.9"]}
    assert network(primary, second, resolvers=["8.8.8.8", "2001:db8::"]) == (
        "version: 2\n"
        "ethernets:\n"
        "  net0:\n"
        "    match:\n"
        '      macaddress: "90:b8:d0:00:00:01"\n'
        "    set-name: net0\n"
        "    dhcp6: true\n"
        "    addresses:\n"
        "      - 10.0.0.2/24\n"
        "      - fd00::2/64\n"
        "    gateway4: 10.0.0.1\n"
        "    gateway6: fd00::1\n"
        "    nameservers:\n"
        "      addresses:\n"
        "        - 8.8.8.8\n"
        '        - "2001:db8::"\n'
        "  net1:\n"
        "    match:\n"
        '      macaddress: "90:b8:d0:00:00:02"\n'
        "    set-name: net1\n"
        "    dhcp4: true\n"
    )


def test_nic_of_an_older_vmadm():
    assert network({"ip": "10.0.0.2", "netmask": "255.255.0.0", "gateway": "10.0.0.1", "primary": True}) == (
        "version: 2\nethernets:\n  eth0:\n    addresses:\n      - 10.0.0.2/16\n    gateway4: 10.0.0.1\n"
    )


@pytest.mark.parametrize("address", ["1:2:3:4:5:6:7:8", "fd00::"])
def test_address_that_yaml_would_take_for_something_else(address):
    assert f'gateway6: "{address}"\n' in network({**NIC, "primary": True, "gateways": [address]})


def test_digest_is_that_of_the_vm_in_a_fixed_order():
    vm = {"customer_metadata": {"k": "ü"}, "nics": [NIC], "uuid": U, "alias": "a", "quota": 10}
    nic = '{"interface":"net0","mac":"90:B8:D0:00:00:01","ips":["10.0.0.2/24"]}'
    text = f'{{"uuid":"{U}","alias":"a","add_nics":[{nic}],"resolvers":[],"customer_metadata":{{"k":"ü"}}}}'
    assert digest(vm) == hashlib.md5(text.encode()).hexdigest()
    assert digest({**vm, "quota": 20}) == digest(vm)
    assert digest({**vm, "hostname": "h"}) != digest(vm)
