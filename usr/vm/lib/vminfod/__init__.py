"""The VM information daemon and its client library.

This file stays empty of imports: the command-line tools load `vminfod.client` from here, and every module
that is imported on the way costs each `vmadm get` its share."""

VERSION = "0.2.0"
