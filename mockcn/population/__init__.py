# SPDX-License-Identifier: MPL-2.0
"""Who lives on a mock node, and how they get there.

filling.py                  fills a node: with the machine's own (machine.py), and VMs (ordinary.py, specials.py)
vms.py                      one VM: its description, and how it is put in place
importer.py  images.py      zones from XML files; images
identities.py               uuids and MAC addresses from a seeded source"""
