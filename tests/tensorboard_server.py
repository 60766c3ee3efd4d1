"""The real TensorBoard server over a folder, and its plugins' addresses."""

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


class Server:
    def __init__(self, address, process, log):
        self.address, self.process, self.log = address, process, log
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path, **query):
        with self.opener.open(f"{self.address}data/{path}?{urllib.parse.urlencode(query)}", timeout=120) as answer:
            return answer.read()

    def json(self, path, **query):
        return json.loads(self.get(path, **query))

    def post(self, path, request):
        headers = {"Content-Type": "application/json"}
        made = urllib.request.Request(f"{self.address}data/{path}", json.dumps(request).encode(), headers)
        with self.opener.open(made, timeout=120) as answer:
            return json.loads(answer.read())

    def wait(self, condition):
        return wait_for(lambda: condition(self), self.process, self.log)


def wait_for(condition, process, log, timeout_s=180):
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(urllib.error.URLError):
            if found := condition():
                return found
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@contextlib.contextmanager
def serve(logdir, log, *options):
    """Start the server over ``logdir``; its output goes to the file ``log``."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1", "--port", "0"]
    command += options
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        found = wait_for(lambda: re.search(r"http://127\.0\.0\.1:\d+/", log.read_text()), process, log)
        yield Server(found.group(), process, log)
    finally:
        process.kill()
        process.wait()
