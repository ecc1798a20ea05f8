# SPDX-License-Identifier: MPL-2.0
"""fwadm, which keeps firewall rules, and the packet filter's ipf and ipfstat."""
