"""Runs the trilog program as its user would: brokers in folders of their own, on ports the system picks, ended by pid."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

TRILOG = os.environ.get("TRILOG", os.path.join(os.path.dirname(__file__), "../../build/release/trilog"))


def trilog(*arguments, stdin=None, timeout=60, env=None, check=None):
    """Runs one command; the result has returncode, stdout and stderr as text."""
    environment = dict(os.environ, **(env or {}))
    result = subprocess.run([TRILOG, *map(str, arguments)], input=stdin, capture_output=True, timeout=timeout,
                            env=environment, text=not isinstance(stdin, bytes))
    if check is not None and result.returncode != check:
        raise AssertionError(f"trilog {' '.join(map(str, arguments))}: exit {result.returncode}, not {check}\n"
                             f"{result.stdout}\n{result.stderr}")
    return result


class Broker:
    """A broker started by `trilog up --port any --json`; use as a context manager or call kill() / stop()."""

    def __init__(self, data=None, arguments=(), wrapper=(), env=None, expect_ready=True, preexec=None):
        self.owns_data = data is None
        self.data = data or tempfile.mkdtemp(prefix="trilog-e2e-")
        self.arguments = list(arguments)
        self.wrapper = list(wrapper)
        self.env = env
        self.preexec = preexec
        self.process = None
        if expect_ready:
            self.start()

    def start(self):
        command = [*self.wrapper, TRILOG, "up", "--data", os.path.join(self.data, "trilog-data"), "--port", "any", "--json",
                   *self.arguments]
        self.stderr = open(os.path.join(self.data, "stderr"), "ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.stderr, text=True,
                                        env=dict(os.environ, **(self.env or {})), preexec_fn=self.preexec)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(10)
            with open(os.path.join(self.data, "stderr"), encoding="utf-8", errors="replace") as log:
                raise AssertionError(f"the broker did not get ready: exit {self.process.returncode}\n{log.read()}")
        self.ready = json.loads(line)
        self.address = [a for a in self.ready["addresses"] if not a.startswith("unix:")][0]
        self.pid = self.ready["nodes"][0]["pid"]

    def run(self, *arguments, **options):
        return trilog(*arguments[:1], *arguments[1:], "--server", self.address, **options)

    def json(self, *arguments, check=0, **options):
        result = self.run(*arguments, "--json", check=check, **options)
        return [json.loads(line) for line in result.stdout.splitlines()]

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait(30)
        self.process.stdout.close()
        self.stderr.close()

    def stop(self, timeout=30):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self.process.stdout.close()
        self.stderr.close()
        return code

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        with open(os.path.join(self.data, "stderr"), encoding="utf-8", errors="replace") as log:
            return log.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.alive():
            self.kill()
        if self.owns_data:
            shutil.rmtree(self.data, ignore_errors=True)


def wait_until(condition, seconds=10, what="condition"):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"{what} did not hold within {seconds} s")


class TestCase(unittest.TestCase):
    def assert_refused(self, result, code, *says):
        """Exit code, a message for people that says all of `says`, nothing that looks like a crash."""
        text = result.stderr if isinstance(result.stderr, str) else result.stderr.decode(errors="replace")
        self.assertEqual(result.returncode, code, text)
        for word in says:
            self.assertIn(word, text)
        self.assertNotIn("check failed", text)
        self.assertNotIn("terminate called", text)
