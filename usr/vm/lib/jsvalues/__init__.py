# SPDX-License-Identifier: MPL-2.0
"""Plain values as JavaScript has them, because clients of the original compare what they get byte for byte: numbers
from text, dates as text, the order of an object's keys.

Always: pure, standard library only, nothing about VMs. Every room may use it."""
