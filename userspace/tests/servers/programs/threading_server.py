"""http.server.ThreadingHTTPServer: a thread for each connection.

Arguments: port, log file, limit of descriptors (0: as it is). The log has a line for each connection and each request.
"""
import http.server
import os
import resource
import sys

port, log, descriptors = int(sys.argv[1]), os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY | os.O_APPEND), int(sys.argv[3])
if descriptors:
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        os.write(log, b"connection\n")
        super().setup()

    def do_GET(self):
        os.write(log, b"request\n")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


Server(("127.0.0.1", port), Handler).serve_forever()
