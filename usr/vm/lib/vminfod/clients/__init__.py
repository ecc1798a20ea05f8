# SPDX-License-Identifier: MPL-2.0
"""What the client library is made of; `vminfod.client` is its door.

    httpwire -> connection -> eventfeed -> stream, watcher -> agents
                    |             |           |
                 client      eventlines    watch, wanted, mirror

Always: plain blocking Python of the standard library, and little of it: each import costs every `vmadm get`."""
