// A server of Node.js.
//
// Arguments: port, log file, workers (0: alone), milliseconds for which a request keeps the event loop busy. The log has
// a line for each connection and each request.
const cluster = require('cluster');
const fs = require('fs');
const http = require('http');

const [port, log, workers, busy] = [process.argv[2], process.argv[3], ...process.argv.slice(4).map(Number)];

if (workers > 0 && cluster.isPrimary) {
  for (let worker = 0; worker < workers; worker++) cluster.fork();
} else {
  const file = fs.openSync(log, 'a');
  const server = http.createServer((_, response) => {
    fs.writeSync(file, 'request\n');
    const end = Date.now() + busy;
    while (Date.now() < end);
    response.end('ok');
  });
  server.on('connection', () => fs.writeSync(file, 'connection\n'));
  server.keepAliveTimeout = 60000;
  server.listen({ port: Number(port), host: '127.0.0.1', backlog: 511 });
}
