# SPDX-License-Identifier: MPL-2.0
"""curl in a zone of the node, which fetches over the network of the machine that the node runs on.

curl [-sSfL] [-m SECONDS] [--max-filesize BYTES] [--max-redirs N] URL. Plain http only."""

import getopt
import urllib.error
import urllib.request

from mockcn.commands.output import CommandFailed, Output

REFUSED, NOT_FOUND, TIMED_OUT, TOO_MANY, TOO_LARGE = 7, 22, 28, 47, 63  # its exit statuses


def curl(words: list[str], output: Output) -> int:
    try:
        given, urls = getopt.getopt(words, "sSfLm:", ["max-filesize=", "max-redirs="])
    except getopt.GetoptError as err:
        raise CommandFailed(f"curl: option {err.opt}: is unknown", 2) from err
    options = dict(given)
    if len(urls) != 1 or not urls[0].startswith("http://"):
        raise CommandFailed("curl: (1) Unsupported protocol", 1)
    most = int(options.get("--max-filesize", 1 << 30))
    redirects = _Redirects()
    redirects.max_redirections = int(options.get("--max-redirs", 50)) + 1
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), redirects)
    try:
        with opener.open(urls[0], timeout=float(options.get("-m", 300))) as answer:
            content = answer.read(most + 1)
    except urllib.error.HTTPError as err:
        if err.code < 400:
            raise CommandFailed(f"curl: ({TOO_MANY}) Maximum redirects followed", TOO_MANY) from err
        raise CommandFailed(f"curl: ({NOT_FOUND}) The requested URL returned error: {err.code}", NOT_FOUND) from err
    except TimeoutError as err:
        raise CommandFailed(f"curl: ({TIMED_OUT}) Operation timed out", TIMED_OUT) from err
    except OSError as err:
        raise CommandFailed(f"curl: ({REFUSED}) Failed to connect: {err}", REFUSED) from err
    if len(content) > most:
        raise CommandFailed(f"curl: ({TOO_LARGE}) Maximum file size exceeded", TOO_LARGE)
    output.write(content)
    return 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows as many as it is told to."""
