# SPDX-License-Identifier: MPL-2.0
"""What is known, and handing it out: the cache, the hub that numbers changes, and HTTP.

Not here: any look at the platform. What is served was put here by a task of freshness."""
