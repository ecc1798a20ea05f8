# SPDX-License-Identifier: MPL-2.0
"""The platform's commands, run inside the node's process for the thin tools in `usr/sbin` and `usr/bin`.

A command is a function `(node, words, output) -> exit status`, where `output` is a `mockcn.commands.output.Output`."""
