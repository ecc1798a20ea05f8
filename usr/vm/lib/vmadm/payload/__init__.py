# SPDX-License-Identifier: MPL-2.0
"""What is asked for: a payload as text, checked and made into a typed change. Pure: no process, no file, no daemon."""
