// SPDX-License-Identifier: MPL-2.0
// A client that misses nothing, in Node.js without packages (docs/http-api.md, "A client that misses nothing").
//
//     node follow.js [HOST [PORT]]
//
// Prints each change once and in order, whatever happens to the connection or the daemon; `vms` is what /vms would answer.
'use strict';

const http = require('http');
const [host = '127.0.0.1', port = '9090'] = process.argv.slice(2);

const SILENCE = 30000; // milliseconds: three heartbeats
const vms = new Map(); // uuid -> VM
let position = null; // EPOCH:REV of what was applied last
let pause = 100; // milliseconds until the next try

function connect() {
    const since = position ? `&since=${position}` : '';
    const request = http.get({ host, port, path: `/events?heartbeat=10${since}` }, (response) => {
        if (response.statusCode === 410) {
            position = null; // the daemon was restarted, or we were away for too long: begin with a list
        }
        if (response.statusCode !== 200) {
            response.resume();
            return response.on('end', again);
        }
        let rest = '';
        response.setEncoding('utf8');
        response.on('data', (text) => {
            const lines = (rest + text).split('\n');
            rest = lines.pop();
            lines.filter(Boolean).forEach((line) => take(JSON.parse(line)));
        });
        response.on('close', again); // whether it ended well or not
    });
    request.setTimeout(SILENCE, () => request.destroy());
    request.on('error', () => request.res || again());
}

function again() {
    setTimeout(connect, pause);
    pause = Math.min(pause * 2, 5000);
}

function take(event) {
    if (event.type === 'ready' && event.vms !== undefined) {
        refill(JSON.parse(event.vms), new Set(event.unreadable || []));
    } else if (event.type === 'delete') {
        vms.delete(event.uuid);
        console.log('delete', event.uuid);
    } else if (event.type === 'create' || event.type === 'modify') {
        vms.set(event.uuid, event.vm);
        console.log(event.type, event.uuid);
    }
    // Of a stream that goes on, ready says up to where it follows: we are not there yet.
    if (event.rev !== undefined && !(event.type === 'ready' && position)) {
        position = `${event.epoch}:${event.rev}`;
        pause = 100;
    }
}

// A new list: what differs from what we have are the changes that we missed.
function refill(list, unreadable) {
    const now = new Map(list.map((vm) => [vm.uuid, vm]));
    for (const [uuid, vm] of vms) {
        if (!now.has(uuid) && !unreadable.has(vm.zonename)) {
            vms.delete(uuid);
            console.log('delete', uuid);
        }
    }
    for (const [uuid, vm] of now) {
        const known = vms.get(uuid);
        if (known === undefined || JSON.stringify(known) !== JSON.stringify(vm)) {
            vms.set(uuid, vm);
            console.log(known === undefined ? 'create' : 'modify', uuid);
        }
    }
}

connect();
