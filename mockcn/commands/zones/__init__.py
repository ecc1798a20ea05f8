# SPDX-License-Identifier: MPL-2.0
"""zoneadm, zonecfg and zlogin: what is done to zones."""
