"""A broker of its own for a measuring program: `trilog up` in a folder, and what the system says of its process."""
import json
import os
import subprocess
import sys
import time

PATIENCE_S = 600  # for one answer, or for the end
CPUCLOCK_SCHED = 2


class BrokerProcess:
    def __init__(self, program, folder):
        self.program = program
        self.folder = folder
        self.process = None
        self.address = None

    def start(self):
        """Seconds until it says that it is ready."""
        log = os.path.join(self.folder, "broker.log")
        began = time.monotonic()
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [self.program, "up", "--data", os.path.join(self.folder, "data"), "--port", "any", "--json"],
                stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "ready":
                self.address = event["addresses"][0]
                return time.monotonic() - began
        with open(log, encoding="utf-8") as errors:
            sys.exit("the broker did not start:\n" + errors.read())

    def end(self, kill=False):
        self.process.kill() if kill else self.process.terminate()
        self.process.wait(timeout=PATIENCE_S)

    def abandon(self):
        """Whatever became of it, nothing of it runs afterwards."""
        if self.process is not None and self.process.poll() is None:
            self.end(kill=True)

    def cpu_seconds(self):
        # Of all its threads, also those that ended. The ticks of /proc/PID/stat are too coarse for an idle process.
        return time.clock_gettime(~self.process.pid << 3 | CPUCLOCK_SCHED)

    def memory_mib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
