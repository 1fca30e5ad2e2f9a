"""A WSGI application for gunicorn. The environment variable PAUSE is how long an answer takes, in seconds."""
import os
import time

pause = float(os.environ.get("PAUSE", "0"))


def application(_, start_response):
    if pause:
        time.sleep(pause)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
