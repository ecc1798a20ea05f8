// SPDX-License-Identifier: MPL-2.0
// A plain Node HTTP server with its answers ready as strings: the least that a server written for Node has to do once
// JSON.stringify has been called.
//     node plain_server.js PORT FILE      FILE: a JSON object, path -> body
'use strict';
const fs = require('fs');
const http = require('http');

const answers = new Map();
for (const [path, body] of Object.entries(JSON.parse(fs.readFileSync(process.argv[3], 'utf8')))) {
    answers.set(path, {body, head: {'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body)}});
}

http.createServer((request, response) => {
    const found = answers.get(request.url);
    if (found === undefined) {
        response.writeHead(404, {'Content-Length': 0});
        response.end();
        return;
    }
    response.writeHead(200, found.head);
    response.end(found.body);
}).listen(Number(process.argv[2]), '127.0.0.1');
