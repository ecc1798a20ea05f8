# SPDX-License-Identifier: MPL-2.0
"""What may be stale, and reading it anew: from an event to what the cache is given.

Not here: how platform text is read (vmload), and who gets to see the result (serving)."""
