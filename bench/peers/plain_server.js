// SPDX-License-Identifier: MPL-2.0
// A plain Node HTTP server with its answers ready: the least that a server written for Node has to do.
//     node plain_server.js PORT FILE      FILE: a JSON object, path -> body
'use strict';
const fs = require('fs');
const http = require('http');

const answers = new Map();
for (const [path, body] of Object.entries(JSON.parse(fs.readFileSync(process.argv[3], 'utf8')))) {
    const bytes = Buffer.from(body);
    answers.set(path, {bytes, head: {'Content-Type': 'application/json', 'Content-Length': bytes.length}});
}

http.createServer((request, response) => {
    const found = answers.get(request.url);
    if (found === undefined) {
        response.writeHead(404, {'Content-Length': 0});
        response.end();
        return;
    }
    response.writeHead(200, found.head);
    response.end(found.bytes);
}).listen(Number(process.argv[2]), '127.0.0.1');
