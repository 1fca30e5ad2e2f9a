"""http.server.HTTPServer: one thread for everything. /stock sleeps, /prices computes, the rest is answered at once.

Arguments: port, for how many seconds.
"""
import http.server
import sys
import time

port, span = int(sys.argv[1]), float(sys.argv[2])


def wait_for_stock():
    time.sleep(span)


def compute_prices():
    end, total = time.monotonic() + span, 0
    while time.monotonic() < end:
        for number in range(20_000):
            total = (total * 31 + number) % 1_000_003
    return total


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/stock":
            wait_for_stock()
        elif self.path == "/prices":
            compute_prices()
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class Server(http.server.HTTPServer):
    request_queue_size = 128


Server(("127.0.0.1", port), Handler).serve_forever()
