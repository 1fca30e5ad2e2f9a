// A server of Node.js. /orders parses a list of orders again and again.
//
// Arguments: port, for how many milliseconds.
const http = require('http');

const [port, span] = process.argv.slice(2).map(Number);
const lines = [{ item: 'teapot', count: 1, price: 24.5 }, { item: 'cup', count: 6, price: 4.25 }];
const text = JSON.stringify(Array.from({ length: 20000 }, (_, id) => ({ id, customer: `customer ${id % 997}`, lines })));

function loadOrders() {
  return JSON.parse(text);
}

http.createServer((request, response) => {
  const end = Date.now() + span;
  if (request.url === '/orders') {
    while (Date.now() < end) loadOrders();
  }
  response.end('ok');
}).listen({ port, host: '127.0.0.1', backlog: 511 });
