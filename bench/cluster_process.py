"""A cluster of its own for a measuring program: `trilog up --nodes 3`, and what the system says of its processes."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 600  # for one answer, or for the end
CPUCLOCK_SCHED = 2
NODES = (1, 2, 3)


class ClusterProcess:
    def __init__(self, build, directory):
        self.program = os.path.join(build, "trilog")
        self.folder = tempfile.mkdtemp(prefix="trilog-cluster-", dir=directory)
        self.data = os.path.join(self.folder, "data")
        self.process = None
        self.servers = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()  # its nodes end with it
            self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        """Seconds until it says that it is ready."""
        began = time.monotonic()
        with open(os.path.join(self.folder, "up.log"), "ab") as errors:
            self.process = subprocess.Popen([self.program, "up", "--nodes", str(len(NODES)), "--data", self.data, "--port", "any", "--json"],
                                            stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        if not line:
            with open(os.path.join(self.folder, "up.log"), encoding="utf-8") as errors:
                sys.exit("the cluster did not start:\n" + errors.read())
        self.servers = [a for a in json.loads(line)["addresses"] if not a.startswith("unix:")]
        return time.monotonic() - began

    def stop(self):
        """Seconds until all nodes have ended cleanly."""
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        return time.monotonic() - began

    def command(self, *arguments, check=True):
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_S, check=False,
                              stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            sys.exit(f"trilog {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()] if "--json" in arguments and done.returncode == 0 else done

    def ask(self, *arguments, servers=None):
        return self.command(*arguments, "--json", "--server", ",".join(servers or self.servers))

    def node(self, action, number):
        self.command("node", action, number, "--data", self.data)

    def pids(self):
        return {n["node_id"]: n["pid"] for n in self.command("node", "list", "--data", self.data, "--json") if n["pid"]}

    def cpu_seconds(self):
        """Of all nodes. The ticks of /proc/PID/stat are too coarse for an idle process."""
        return sum(time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED) for pid in self.pids().values())

    def memory_mib(self):
        sizes = []
        for pid in self.pids().values():
            with open(f"/proc/{pid}/status", encoding="utf-8") as status:
                sizes.append(next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024)
        return sizes

    def partitions(self, topic, servers=None):
        return self.ask("topic", "show", topic, servers=servers)[0]["partitions"]


def run_json(command):
    """The JSON lines that a measuring command prints."""
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=PATIENCE_S, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.decode().splitlines() if line]


def wait_for(what, condition, limit_s=120, every_s=0.05):
    """Seconds until it is true. A condition that runs a program takes from what is measured meanwhile."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > limit_s:
            sys.exit(f"not within {limit_s} s: {what}")
        time.sleep(every_s)
    return time.monotonic() - began
