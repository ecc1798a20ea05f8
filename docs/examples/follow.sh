#!/bin/bash
# SPDX-License-Identifier: MPL-2.0
# A client that misses nothing, in shell with curl and jq (docs/http-api.md, "A client that misses nothing").
#
#     follow.sh [HOST [PORT]]
#
# Prints each change once and in order, whatever happens to the connection or the daemon. It keeps no VMs: after a restart of the
# daemon it says "list", and who needs to know what differs asks /vms.
host=${1:-127.0.0.1}
port=${2:-9090}
position= # EPOCH:REV of what was printed last
pause=0.1

while :; do
	# ready first, unless curl gets no 200; a heartbeat each ten seconds, or the connection is dead.
	while IFS=$'\t' read -r type uuid at; do
		case $type in
		ready)
			[ -n "$position" ] && continue # it says up to where the stream goes on: we are not there yet
			echo list
			;;
		create | modify | delete) echo "$type $uuid" ;;
		esac
		position=$at
		pause=0.1
	done < <(curl --silent --fail --no-buffer --speed-limit 1 --speed-time 30 \
		"http://$host:$port/events?vms=false&heartbeat=10${position:+&since=$position}" |
		jq --raw-output --unbuffered '[.type, .uuid // "-", "\(.epoch):\(.rev)"] | @tsv' 2>/dev/null) # half a line, where it was cut
	# 410: the daemon was restarted, or we were away for too long.
	status=$(curl --silent --output /dev/null --write-out '%{http_code}' --max-time 1 \
		"http://$host:$port/events?vms=false${position:+&since=$position}")
	[ "$status" = 410 ] && position=
	sleep "$pause"
	pause=$(echo "$pause" | awk '{ print ($1 < 5) ? $1 * 2 : 5 }')
done
