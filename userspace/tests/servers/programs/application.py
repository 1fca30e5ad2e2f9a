"""A WSGI application for gunicorn. The environment variable PAUSE is how long an answer takes, in seconds. /hang takes
twenty."""
import os
import time

pause = float(os.environ.get("PAUSE", "0"))


def application(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        time.sleep(20)
    if pause:
        time.sleep(pause)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
