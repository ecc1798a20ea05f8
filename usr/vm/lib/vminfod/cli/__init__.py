# SPDX-License-Identifier: MPL-2.0
"""The commands `vminfo` and `zoneevent`: options in, text out. Built on vminfod.client alone."""
