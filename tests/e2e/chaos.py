#!/usr/bin/env python3
"""Breaks a cluster of three real processes, round after round, while clients work on it and record what they were told;
then judges the history: nothing acknowledged lost, nothing doubled, nothing uncommitted read, no committed offset gone back.

chaos.py [--rounds N] [--seed N] [--seconds N] [--fault PATTERN…] [--cuts] [--keep]: the schedule follows from the seed, which
is printed. After each round the cluster has to heal. On a failure the folder with the nodes' data, their logs and the
histories is kept and named. Ends only processes that it started. With --cuts it runs in namespaces of its own (sandbox.py)
where that is permitted: the network is cut there by dropping packets, and one node is on a small disk that fills up; elsewhere
a TCP proxy cuts, and no disk is filled."""
import argparse
import concurrent.futures
import errno
import fnmatch
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import sandbox
from peer_links import PeerLinks

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("TRILOG_BUILD", os.path.join(HERE, "../../build/release"))
TRILOG = os.environ.get("TRILOG", os.path.join(BUILD, "trilog"))
TOPICS = {"orders": (6, "synced"), "views": (2, "replicated")}
NODES = (1, 2, 3)
HEAL_S = 60  # for the cluster to be whole again; far more than it needs, as the machine may be busy
COMMAND_S = 60
SMALL_DISK_MB = 640
CONSENT = "I accept that anyone on this network can read and write"


class Failure(Exception):
    """The cluster did not do what it has to."""


def command(*arguments, check=True):
    done = subprocess.run([TRILOG, *map(str, arguments)], capture_output=True, text=True, timeout=COMMAND_S, check=False,
                          stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        raise Failure(f"trilog {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Cluster:
    """`trilog up --nodes 3` of our own. `watched`: the topics that must be whole."""
    watched = (*TOPICS, "__consumer_offsets")

    def __init__(self, folder):
        self.data = os.path.join(folder, "data")
        self.errors = open(os.path.join(folder, "up.log"), "ab")
        self.process = subprocess.Popen([TRILOG, "up", "--nodes", str(len(NODES)), "--data", self.data, "--port", "any", "--json"],
                                        stdout=subprocess.PIPE, stderr=self.errors, stdin=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise Failure("the cluster did not start: see up.log")
        self.servers = [a for a in json.loads(line)["addresses"] if not a.startswith("unix:")]
        self.events = threading.Thread(target=self.process.stdout.read, daemon=True)
        self.events.start()

    def node(self, action, number):
        command("node", action, number, "--data", self.data)

    def pids(self):
        lines = command("node", "list", "--data", self.data, "--json").stdout.splitlines()
        return {n["node_id"]: n["pid"] for n in map(json.loads, lines) if n["pid"]}

    def wait_for_end(self, _, pid):
        """Of a killed process, all of it: one of its threads may be writing still, and hold its ports. Its parent takes note."""
        until = time.monotonic() + 20
        while pid and os.path.exists(f"/proc/{pid}") and time.monotonic() < until:
            time.sleep(0.005)

    def ask(self, *arguments):
        """An answer of whichever node gives one; None if none does."""
        servers = ",".join(self.servers)
        done = command(*arguments, "--json", "--timeout", "3s", "--server", servers, check=False)
        return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else None

    def controller(self):
        shown = self.ask("cluster", "show")
        return shown[0]["controller"] or -1 if shown else -1

    def leaders(self, topic="orders"):
        shown = self.ask("topic", "show", topic)
        return [p["leader"] or -1 for p in shown[0]["partitions"]] if shown else []

    def flaw(self):
        """Why the cluster is not whole; None if it is."""
        missing = sorted(set(NODES) - set(self.pids()))
        if missing:
            return f"nodes {missing} do not run"
        shown = self.ask("cluster", "show")
        if not shown or not shown[0]["controller"]:
            return "no controller"
        down = [n["node_id"] for n in shown[0]["nodes"] if n["state"] != "up"]
        if down:
            return f"nodes {down} are not up"
        for topic in self.watched:
            shown = self.ask("topic", "show", topic)
            if not shown:
                return f"topic {topic} is not shown"
            for partition in shown[0]["partitions"]:
                if not partition["leader"] or len(partition["isr"]) < len(NODES):
                    return f"{topic} {partition}"
        return None

    def heal(self):
        """Seconds until it was whole."""
        began = time.monotonic()
        while True:
            flaw = self.flaw()
            if flaw is None:
                return time.monotonic() - began
            if time.monotonic() - began > HEAL_S:
                raise Failure(f"not healed after {HEAL_S} s: {flaw}")
            time.sleep(0.05)

    def end(self):
        """Cleanly, if they can. Twice is fine."""
        if self.process.poll() is None:
            for pid in self.pids().values():
                os.kill(pid, signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()  # its nodes end with it
                self.process.wait(30)
        self.events.join(10)
        self.errors.close()


class ServedCluster(Cluster):
    """Three `trilog serve` of our own, whose ways to each other can be cut. `small`: the node on a small disk, if one is."""

    def __init__(self, folder, small=None):
        self.data = os.path.join(folder, "data")  # empty: they form a cluster when all three are there
        self.small = small
        for node in NODES:
            os.makedirs(self.folder(node))
        if small:
            sandbox.small_disk(self.folder(small), SMALL_DISK_MB)
        self.processes = {}
        if sandbox.inside():
            self.links = sandbox.Lan(NODES)
            self.servers = [f"{self.links.address(node)}:9092" for node in NODES]
        else:
            ports = free_ports(2 * len(NODES))
            self.links = PeerLinks(dict(zip(NODES, ports[len(NODES):])))
            self.servers = [f"localhost:{port}" for port in ports[:len(NODES)]]
        for node in NODES:
            self.start(node, False)
        for node in NODES:
            self.wait_until_ready(node)

    def folder(self, node):
        return os.path.join(self.data, f"node-{node}")

    def peer(self, node, other):
        """Where `node` finds `other`."""
        if sandbox.inside():
            return f"{self.links.address(other)}:9093"
        return f"127.0.0.1:{self.links.peer_ports[node] if other == node else self.links.port(node, other)}"

    def start(self, node, wait=True):
        peers = ",".join(f"{other}@{self.peer(node, other)}" for other in NODES)
        settings = {"node_id": node, "data_dir": self.folder(node), "listen": self.servers[node - 1], "peers": peers,
                    "auto_create_topics": "true"}
        arguments = [TRILOG, "serve", "--json"]
        if sandbox.inside():
            arguments = [*self.links.enter(node), *arguments]
            settings["insecure"] = CONSENT
        for name, value in settings.items():
            arguments += ["--set", f"{name}={value}"]
        if node in self.processes:
            self.processes[node].stdout.close()
        with open(os.path.join(self.data, f"log-{node}"), "ab") as log:
            self.processes[node] = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True)
        if wait:
            self.wait_until_ready(node)

    def wait_until_ready(self, node):
        if not self.processes[node].stdout.readline():
            raise Failure(f"node {node} did not start: exit {self.processes[node].wait(30)}; see log-{node}")

    def node(self, action, number):
        if action == "start":
            return self.start(number)
        self.processes[number].terminate()
        if self.processes[number].wait(COMMAND_S) != 0:
            raise Failure(f"node {number} did not stop cleanly")
        return None

    def wait_for_end(self, node, _):
        self.processes[node].wait(20)

    def pids(self):
        return {node: process.pid for node, process in self.processes.items() if process.poll() is None}

    def end(self):
        for pid in self.pids().values():
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)
            process.stdout.close()
        if self.links:
            self.links.end()
        self.links = None


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


class Clients:
    """chaos_client at work."""

    def __init__(self, folder, cluster, seed, rate, more=()):
        self.program = os.path.join(BUILD, "chaos_client")
        self.common = ["--servers", ",".join(cluster.servers), "--history", os.path.join(folder, "history.jsonl"), "--seed", str(seed)]
        for topic, (partitions, _) in TOPICS.items():
            self.common += ["--topic", f"{topic}:{partitions}"]
        self.errors = open(os.path.join(folder, "clients.log"), "ab")
        self.process = subprocess.Popen([self.program, "load", "--rate", str(rate), *self.common, *more], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True)

    def mark(self):
        return self.tell("mark", True)

    def tell(self, line, answered=False):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline() if answered else None
        except BrokenPipeError:
            answer = ""
        if answer == "":
            raise Failure(f"chaos_client ended with {self.process.wait(10)}: see clients.log")
        return json.loads(answer) if answered else None

    def finish(self):
        """Ends the load and records what is there at the end."""
        self.process.stdin.close()
        last = json.loads(self.process.stdout.readline())
        self.process.wait(HEAL_S + 120)
        done = subprocess.run([self.program, "final", *self.common], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise Failure(f"the final state could not be read: {done.stdout}{done.stderr}")
        return last

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        self.process.stdout.close()
        self.errors.close()


class Faults:
    """What can happen to a cluster, and how it is undone. Each returns what it did, in words."""

    def __init__(self, cluster, clients, rng):
        self.cluster, self.clients, self.rng = cluster, clients, rng

    def names(self):
        return sorted(name[3:] for name in dir(self) if name.startswith("do_"))

    def chosen(self, patterns, without):
        names = [name for name in self.names() if name not in without]
        return [name for name in names if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]

    def pause(self, low, high):
        time.sleep(self.rng.uniform(low, high))

    def leader(self):
        leaders = [n for n in self.cluster.leaders() if n > 0]
        return self.rng.choice(leaders) if leaders else self.rng.choice(NODES)

    def follower(self):
        leader = self.leader()
        return self.rng.choice([n for n in NODES if n != leader])

    def controller(self):
        controller = self.cluster.controller()
        return controller if controller > 0 else self.rng.choice(NODES)

    def killed(self, nodes):
        """kill -9 of all of them at once, and a start after a while, one after the other."""
        pids = self.cluster.pids()
        for node in nodes:
            if node in pids:
                os.kill(pids[node], signal.SIGKILL)
        self.pause(0.3, 3)
        self.rng.shuffle(nodes)
        for node in nodes:
            self.cluster.wait_for_end(node, pids.get(node))
        # One alone is not ready before another one is there.
        with concurrent.futures.ThreadPoolExecutor() as pool:
            started = []
            for node in nodes:
                started.append(pool.submit(self.cluster.node, "start", node))
                self.pause(0, 0.5)
            for each in started:
                each.result()
        return f"kill -9 of {nodes}"

    def do_kill_leader(self):
        return self.killed([self.leader()])

    def do_kill_follower(self):
        return self.killed([self.follower()])

    def do_kill_controller(self):
        return self.killed([self.controller()])

    def do_kill_leader_and_controller(self):
        return self.killed(list({self.leader(), self.controller()}))

    def do_kill_two(self):
        return self.killed(self.rng.sample(NODES, 2))

    def do_kill_all(self):
        return self.killed(list(NODES))

    def do_kill_again_while_it_starts(self):
        node = self.rng.choice(NODES)
        for _ in range(3):
            pid = self.cluster.pids().get(node)
            if pid:
                os.kill(pid, signal.SIGKILL)
                self.cluster.wait_for_end(node, pid)
            self.pause(0, 0.3)
            self.cluster.node("start", node)
            self.pause(0, 0.5)
        return f"three times kill -9 of {node}"

    def paused(self, node):
        pid = self.cluster.pids()[node]
        seconds = self.rng.uniform(1, 5)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
        return f"{node} stopped for {seconds:.1f} s"

    def do_pause_leader(self):
        return self.paused(self.leader())

    def do_pause_follower(self):
        return self.paused(self.follower())

    def do_pause_controller(self):
        return self.paused(self.controller())

    def do_wipe(self):
        node = self.rng.choice(NODES)
        self.cluster.node("stop", node)
        folder = os.path.join(self.cluster.data, f"node-{node}")
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        self.cluster.node("start", node)
        return f"{node} wiped"

    def do_rolling_restart(self):
        self.clients.mark()
        order = list(NODES)
        self.rng.shuffle(order)
        for node in order:
            self.cluster.node("stop", node)
            self.cluster.node("start", node)
            self.cluster.heal()
        seen = self.clients.mark()
        errors = {what: why for what, why in seen["problems"].items() if what.startswith(("idempotent", "group commit", "poll"))}
        if errors:
            raise Failure(f"a rolling restart gave clients with retries errors: {errors}")
        return f"rolling restart of {order}, longest gap {seen['gap_ms']:.0f} ms"


class FaultsWithCuts(Faults):
    """Also what can happen to the network between the nodes, and to a small disk."""

    def names(self):
        return [name for name in super().names() if name != "disk_full" or self.cluster.small]

    def do_disk_full(self):
        node = self.cluster.small
        pid = self.cluster.pids()[node]
        left = self.rng.choice((0, 1 << 20, 3 << 20))  # all below what records are taken with
        ballast = os.path.join(self.cluster.folder(node), "ballast")
        with open(ballast, "wb") as file:
            fill(file, left)
        seconds = self.rng.uniform(2, 6)
        time.sleep(seconds)
        os.unlink(ballast)
        if self.cluster.pids().get(node) != pid:
            raise Failure(f"node {node} ended because its disk was full")
        return f"disk of {node} full for {seconds:.1f} s, {left} bytes free at first"

    def cut(self, ways, what):
        for a, b in ways:
            self.cluster.links.cut(a, b)
        seconds = self.rng.uniform(1, 8)
        time.sleep(seconds)
        self.cluster.links.heal()
        return f"{what} for {seconds:.1f} s"

    def isolated(self, node, ways=("out", "in")):
        others = [n for n in NODES if n != node]
        cuts = [(node, n) for n in others if "out" in ways] + [(n, node) for n in others if "in" in ways]
        return self.cut(cuts, f"{node} cut off ({' and '.join(ways)})")

    def do_isolate_leader(self):
        return self.isolated(self.leader())

    def do_isolate_controller(self):
        return self.isolated(self.controller())

    def do_isolate_follower(self):
        return self.isolated(self.follower())

    def do_cut_outgoing(self):
        return self.isolated(self.rng.choice(NODES), ("out",))

    def do_cut_incoming(self):
        return self.isolated(self.rng.choice(NODES), ("in",))

    def do_cut_pair(self):
        a, b = self.rng.sample(NODES, 2)
        return self.cut([(a, b), (b, a)], f"{a} and {b} cut from each other")

    def do_cut_one_way(self):
        a, b = self.rng.sample(NODES, 2)
        return self.cut([(a, b)], f"nothing from {a} to {b}")

    def do_cut_all(self):
        return self.cut([(a, b) for a in NODES for b in NODES if a != b], "all cut from each other")


def fill(file, left):
    """Until that many bytes are free on its file system."""
    space = os.statvfs(file.name)
    size, step = 0, 1 << 26
    todo = space.f_bavail * space.f_frsize - left
    while step >= 4096:
        part = min(step, max(todo - size, 0)) if left else step
        try:
            if part == 0:
                return
            os.posix_fallocate(file.fileno(), size, part)
            size += part
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            step //= 4


def record_replicas(folder, data, topic_ids):
    """What each node has on its disk, beside what the cluster gave at the end: they must not differ (X17)."""
    history = os.path.join(folder, "history.jsonl")
    with open(history, encoding="utf-8") as lines:
        finals = [json.loads(line) for line in lines if line.startswith('{"op":"final_read"')]
    with open(history, "a", encoding="utf-8") as lines:
        for final in finals:
            for node in NODES:
                path = os.path.join(data, f"node-{node}", "topics", topic_ids[final["topic"]], str(final["partition"]))
                dumped = map(json.loads, command("dump", path, "--records", "--json").stdout.splitlines())
                records = [[row["offset"], int(row["value"])] for row in dumped if row["type"] == "record"]
                records = [record for record in records if record[0] < final["high_watermark"]]
                lines.write(json.dumps({**final, "node": node, "client": f"disk{node}", "records": records}) + "\n")


def judge(folder):
    done = subprocess.run([os.path.join(BUILD, "history_check"), os.path.join(folder, "history.jsonl")], capture_output=True,
                          text=True, timeout=600, check=False)
    print(done.stdout.strip()[:20_000] + done.stderr, flush=True)
    if done.returncode != 0:
        raise Failure("the history has violations")


def schedule(rng, rounds, chosen):
    """Every fault in turn, in an order of chance, so that a few rounds already meet many."""
    names = []
    while len(names) < rounds:
        names += rng.sample(chosen, len(chosen))
    return names[:rounds]


def run(options, folder):
    rng = random.Random(options.seed)
    small = rng.choice(NODES) if options.cuts and sandbox.inside() else None
    cluster = ServedCluster(folder, small) if options.cuts else Cluster(folder)
    clients = None
    try:
        for topic, (partitions, durability) in TOPICS.items():
            command("topic", "create", topic, "--partitions", partitions, "--set", f"durability={durability}",
                    "--server", cluster.servers[0])
        clients = Clients(folder, cluster, options.seed, options.rate)
        cluster.heal()
        faults = (FaultsWithCuts if options.cuts else Faults)(cluster, clients, rng)
        done = 0
        began = time.monotonic()
        for name in schedule(rng, options.rounds, faults.chosen(options.fault, options.without)):
            if options.seconds and time.monotonic() - began > options.seconds:
                break
            time.sleep(rng.uniform(0.2, 1))
            before = clients.mark()
            what = getattr(faults, f"do_{name}")()
            healed = cluster.heal()
            seen = clients.mark()
            done += 1
            problems = {k: n for k, (n, _) in seen["problems"].items()}
            print(f"{done:>4} {time.monotonic() - began:6.1f} s  {what}; whole after {healed:.1f} s; acknowledged "
                  f"{before['acknowledged'] + seen['acknowledged']}, refused {seen['refused']}, unknown {seen['unknown']}, longest gap "
                  f"{seen['gap_ms']:.0f} ms{' ' + json.dumps(problems) if options.verbose else ''}", flush=True)
        clients.tell(f"healed {HEAL_S * 1000}")
        clients.finish()
        topic_ids = {topic: cluster.ask("topic", "show", topic)[0]["topic_id"] for topic in TOPICS}
        cluster.end()
        record_replicas(folder, cluster.data, topic_ids)
        judge(folder)
        print(f"{done} rounds, 0 lost, 0 doubled, 0 uncommitted reads, no committed offset went back", flush=True)
    finally:
        if clients:
            clients.end()
        cluster.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0, help="begin no round after so long")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--rate", type=int, default=100, help="records a second of each of the five producers")
    parser.add_argument("--cuts", action="store_true", help="three `trilog serve`; network and disk as well")
    parser.add_argument("--fault", action="append", help="only these, * stands for anything")
    parser.add_argument("--without", action="append", default=[], help="not these")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    if options.cuts and not sandbox.inside():
        reason = sandbox.why_not()
        if reason is None:
            sandbox.enter()
        print(f"without namespaces ({reason}): a proxy cuts the network, and no disk is filled", flush=True)
    folder = tempfile.mkdtemp(prefix="trilog-chaos-")
    print(f"seed {options.seed}, {options.rounds} rounds, {folder}", flush=True)
    try:
        run(options, folder)
    except (Failure, subprocess.TimeoutExpired) as failure:
        print(f"FAILED: {failure}\nagain: {sys.argv[0]} --seed {options.seed} --rounds {options.rounds}; the folder is kept: {folder}")
        if sandbox.inside():  # what is mounted goes with us
            shutil.copytree(os.path.join(folder, "data"), os.path.join(folder, "data-as-it-was"), symlinks=True,
                            ignore=shutil.ignore_patterns("*.sock"))
        return 1
    if not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
