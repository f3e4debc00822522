#!/usr/bin/env python3
"""How little of a node's death is noticed: bench/failover.py [BUILD] [DIRECTORY].

Three nodes in a folder, one idempotent producer at 1,000 records a second to one partition (acks all). A gap is the longest
time between two acknowledgements around what happens: kill -9 of the leader (--kills times each when it is the controller and
when it is not), a planned stop of the leader, beside as much time without one. Then: from three empty folders to the first
acknowledgement, and what idle nodes cost over --idle seconds. --quick makes every size tiny: that tests this program and
measures nothing. --json prints one object. Ends with 1 if something could not be measured."""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/e2e"))
import chaos  # noqa: E402

CPUCLOCK_SCHED = 2
DURABILITY = "synced"


def quantile(values, fraction):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


class Bench:
    def __init__(self, build, directory):
        chaos.TRILOG, chaos.BUILD = os.path.join(build, "trilog"), build
        chaos.TOPICS = {"gap": (1, DURABILITY)}
        self.folder = tempfile.mkdtemp(prefix="trilog-failover-", dir=directory)
        self.cluster = chaos.Cluster(self.folder)
        self.cluster.watched = ("gap",)
        self.clients = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.clients:
            self.clients.end()
        self.cluster.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def load(self):
        chaos.command("topic", "create", "gap", "--partitions", 1, "--server", self.cluster.servers[0])
        self.clients = chaos.Clients(self.folder, self.cluster, 1, 1000, ("--only-producers", "--idempotent", "1", "--plain", "0", "--leader", "0"))
        self.cluster.heal()

    def gap_ms(self, act, after_s=2.5):
        """Of the time from 0.3 s before act(node), the leader, until `after_s` behind it."""
        self.cluster.heal()
        time.sleep(0.5)
        leader = self.cluster.leaders("gap")[0]
        self.clients.mark()
        time.sleep(0.3)
        act(leader)
        time.sleep(after_s)
        seen = self.clients.mark()
        errors = {what: n for what, n in seen["problems"].items()}
        if errors or not seen["acknowledged"]:
            raise chaos.Failure(f"the producer saw {errors}, acknowledged {seen['acknowledged']}")
        return seen["gap_ms"]

    def killed(self, leader):
        self.pid = self.cluster.pids()[leader]
        os.kill(self.pid, signal.SIGKILL)
        self.leader = leader

    def one_kill(self):
        gap = self.gap_ms(self.killed)
        self.cluster.node("start", self.leader)
        return gap

    def kills(self, count):
        """Gaps by whether the leader was the controller as well."""
        gaps = {True: [], False: []}
        for _ in range(12 * count):
            if min(map(len, gaps.values())) >= count:
                break
            self.cluster.heal()
            controller = self.cluster.controller()
            both = len(gaps[True]) < count
            leader = controller if both else next(node for node in chaos.NODES if node != controller)
            chaos.command("partition", "move-leader", "gap/0", "--to", leader, "--server", ",".join(self.cluster.servers))
            self.cluster.heal()
            # Each may have moved on its own meanwhile.
            together = self.cluster.leaders("gap")[0] == self.cluster.controller()
            if len(gaps[together]) < count:
                gaps[together].append(self.one_kill())
        return gaps

    def handovers(self, count):
        """The gaps, and those of as much time in which nobody stops: what the disk does to the figure by itself."""
        gaps, quiet = [], []
        for _ in range(count):
            quiet.append(self.gap_ms(lambda leader: time.sleep(0.4), 0.1))
            gaps.append(self.gap_ms(lambda leader: self.cluster.node("stop", leader), 0.1))
            for node in set(chaos.NODES) - set(self.cluster.pids()):
                self.cluster.node("start", node)
        return gaps, quiet

    def idle(self, seconds):
        self.cluster.heal()
        time.sleep(min(10, seconds))
        pids = self.cluster.pids().values()
        before = self.leadership()
        used = {pid: time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED) for pid in pids}
        began = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        shares = [(time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED) - used[pid]) / took for pid in pids]
        memory = []
        for pid in pids:
            with open(f"/proc/{pid}/status", encoding="utf-8") as status:
                memory.append(next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024)
        return shares, memory, self.leadership() == before

    def leadership(self):
        shown = self.cluster.ask("topic", "show", "gap")[0]["partitions"]
        return self.cluster.controller(), [(p["leader"], p["leader_epoch"]) for p in shown]


def first_acknowledgement(build, directory):
    """Milliseconds from the start of `up` with three empty folders until a record is acknowledged."""
    folder = tempfile.mkdtemp(prefix="trilog-first-", dir=directory)
    port = 20_000 + os.getpid() % 20_000
    program = os.path.join(build, "trilog")
    began = time.monotonic()
    process = subprocess.Popen([program, "up", "--nodes", "3", "--data", os.path.join(folder, "data"), "--port", str(port), "--json"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True)
    try:
        if not process.stdout.readline():
            raise chaos.Failure("the cluster did not start")
        subprocess.run([program, "produce", "first", "x", "--server", f"localhost:{port}"], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, timeout=60)
        return (time.monotonic() - began) * 1000
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def measure(options):
    figures = {}

    def show(name, what, figure, target):
        figures[name] = figure
        if not options.json:
            print(f"{what:<58} {json.dumps(figure):<44} wanted {target}", flush=True)

    def show_gaps(name, what, gaps, target):
        if not gaps:
            return show(name, what, None, target + "; it did not happen in so many tries")
        return show(name, what, {"durability": DURABILITY, "times": len(gaps), "median_ms": round(statistics.median(gaps), 1),
                          "p99_ms": round(quantile(gaps, 0.99), 1)}, target)

    if not options.json:
        print(f"load {os.getloadavg()[0]:.1f}; acks all, {DURABILITY}, three replicas", flush=True)
    firsts = [first_acknowledgement(options.build, options.directory) for _ in range(options.starts)]
    show("first_ack", "three empty folders to the first acknowledgement", {"times": len(firsts), "median_ms": round(statistics.median(firsts), 1),
                                                                           "most_ms": round(max(firsts), 1)}, "median 500 ms")
    with Bench(options.build, options.directory) as bench:
        bench.load()
        gaps = bench.kills(options.kills)
        show_gaps("kill_leader", "write gap, kill -9 of the leader", gaps[False], "median 500 ms, p99 1500 ms")
        show_gaps("kill_leader_and_controller", "write gap, kill -9 of leader and controller", gaps[True],
                  "median 500 ms, p99 1500 ms")
        gaps, quiet = bench.handovers(options.kills)
        show_gaps("handover", "write gap, planned stop of the leader", gaps, "50 ms")
        show_gaps("quiet", "write gap, nobody stops", quiet, "nothing")
        bench.clients.end()
        shares, memory, stable = bench.idle(options.idle)
        show("idle_cpu", "processor of each idle node", [f"{share:.2%}" for share in shares], "0.25 % of a core")
        show("idle_memory", "memory of each idle node", [f"{mib:.1f} MiB" for mib in memory], "20 MiB")
        show("stable", f"same leaders and controller after {options.idle:g} s", stable, "true")
    if options.json:
        print(json.dumps(figures))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default="build/release")
    parser.add_argument("directory", nargs="?", default=".")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--starts", type=int, default=9)
    parser.add_argument("--idle", type=float, default=60)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.kills, options.starts, options.idle = 1, 1, 1
    try:
        measure(options)
    except (chaos.Failure, subprocess.SubprocessError) as failure:
        print(f"FAILED: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
