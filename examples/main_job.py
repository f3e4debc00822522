#!/usr/bin/env python3
"""The main job: what `make run` shows, on real events, through nothing but the command line of trilog.

Starts a cluster of three processes in a fresh folder on free ports and produces 18,532 invoices keyed by customer, while
the leader of a partition is killed with -9 in the middle and started again. Consumes half of them with a group, kills the
node that keeps the group's offsets, consumes the rest, and checks in the open that every invoice came exactly once and
every customer's invoices in the order of the file, and that all replicas are in sync again. Then two of three nodes go
down: a write is refused with the reason, and reading goes on. Any deviation ends it with exit code 1, the reason, and the
folder left for a look; otherwise it leaves nothing behind."""
import collections
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TRILOG = os.environ.get("TRILOG", os.path.join(ROOT, "build/release/trilog"))
INVOICES = os.path.join(ROOT, "examples/data/retail_invoices.csv")
INVOICE_COUNT, CUSTOMER_COUNT = 18_532, 4_338
TOPIC, GROUP = "invoices", "billing"
PATIENCE_S = 60  # for one command; the whole job takes some ten seconds
PRODUCE_S = 2    # over which producing is spread, so that there is a middle of it


class Deviation(Exception):
    """Something is not as promised."""


def require(truth, message):
    if not truth:
        raise Deviation(message)


def say(what, text):
    print(f"{what:<10}{text}", flush=True)


class Cluster:
    """A `trilog up --nodes 3` of our own, with its output in a file beside its data."""

    def __init__(self, folder):
        self.data = os.path.join(folder, "data")
        self.output = os.path.join(folder, "cluster.log")
        self.process = None

    def start(self):
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen([TRILOG, "up", "--nodes", "3", "--data", self.data, "--port", "any", "--json"],
                                            stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE_S
        self.ready = None
        while self.ready is None:
            require(self.process.poll() is None, f"the cluster ended with {self.process.returncode} before it was ready")
            require(time.monotonic() < until, f"the cluster was not ready after {PATIENCE_S} s")
            time.sleep(0.002)
            self.ready = self.ready_event()
        self.servers = ",".join(self.ready["addresses"])

    def ready_event(self):
        with open(self.output, encoding="utf-8", errors="replace") as output:
            for line in output:
                if line.startswith("{") and line.endswith("\n"):
                    event = json.loads(line)
                    if event.get("event") == "ready":
                        return event
        return None

    def stop(self):
        self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        require(code in (0, 143), f"the cluster did not end cleanly on SIGTERM: {code}")

    def node(self, action, number):
        subprocess.run([TRILOG, "node", action, str(number), "--data", self.data], check=True, timeout=PATIENCE_S,
                       stdout=subprocess.DEVNULL)

    def command(self, *arguments):
        return [TRILOG, *arguments, "--json", "--server", self.servers]

    def run(self, *arguments):
        """One command against this cluster, however it ends."""
        command = self.command(*arguments)
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        except subprocess.TimeoutExpired:
            raise Deviation(f"still running after {PATIENCE_S} s: {' '.join(command)}") from None

    def trilog(self, *arguments):
        """One command that succeeds; its JSON lines and the seconds it took."""
        began = time.monotonic()
        done = self.run(*arguments)
        require(done.returncode == 0, f"exit code {done.returncode}: {' '.join(done.args)}\n{done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines()], time.monotonic() - began

    def partitions(self):
        return self.trilog("topic", "show", TOPIC)[0][0]["partitions"]

    def await_in_sync(self):
        """Until every partition has all three replicas in sync."""
        began = time.monotonic()
        while any(len(partition["isr"]) < 3 for partition in self.partitions()):
            require(time.monotonic() - began < PATIENCE_S, f"not all replicas are in sync after {PATIENCE_S} s")
            time.sleep(0.05)
        return time.monotonic() - began


def read_invoices():
    with open(INVOICES, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    require(len(rows) == INVOICE_COUNT, f"{INVOICES} has {len(rows)} invoices, not {INVOICE_COUNT}")
    return rows


def by_customer(rows):
    invoices = collections.defaultdict(list)
    for row in rows:
        invoices[row["CustomerID"]].append(row["InvoiceNo"])
    return invoices


class Production:
    """`trilog produce` that is fed the file row by row, and what it said when."""

    def __init__(self, cluster, header):
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            cluster.command("produce", TOPIC, "--file", "-", "--format", "csv", "--key-field", "CustomerID"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines, self.times = [], []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.process.stdin.write(header)

    def read(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            self.times.append(time.monotonic())

    def send(self, rows):
        self.process.stdin.writelines(rows)
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()
        self.reader.join(PATIENCE_S)
        require(not self.reader.is_alive(), f"producing did not end within {PATIENCE_S} s")
        code = self.process.wait(PATIENCE_S)
        require(code == 0, f"producing ended with exit code {code}: {self.process.stderr.read().strip()}")
        return self.lines[:-1], self.lines[-1]["summary"], time.monotonic() - self.began

    def longest_pause_ms(self):
        return max(after - before for before, after in zip(self.times, self.times[1:])) * 1e3


def produce(cluster):
    with open(INVOICES, encoding="utf-8") as file:
        header, *rows = file
    production = Production(cluster, header)
    middle, step = len(rows) // 2, 200
    victim = None
    for begin in range(0, len(rows), step):
        production.send(rows[begin:begin + step])
        if begin <= middle < begin + step:
            victim = cluster.partitions()[0]["leader"]
            cluster.node("kill", victim)
        time.sleep(PRODUCE_S * step / len(rows))
    acks, summary, seconds = production.end()
    require(len(acks) == INVOICE_COUNT, f"{len(acks)} acknowledgements for {INVOICE_COUNT} invoices")
    require(summary["records"] == INVOICE_COUNT and not summary["failed"] and not summary["unknown"], f"{summary}")
    require(summary["durability"] == "synced", f"acknowledged before the disks had it: {summary}")
    offsets = collections.defaultdict(list)
    for ack in acks:
        offsets[ack["partition"]].append(ack["offset"])
    for partition, found in offsets.items():
        require(sorted(found) == list(range(len(found))), f"gaps in the offsets of partition {partition}")
    say("produced", f"{INVOICE_COUNT:,} invoices of {CUSTOMER_COUNT:,} customers over {len(offsets)} partitions "
                    f"in {seconds:.2f} s · synced on two nodes or more before every ack")
    say("killed", f"node {victim}, leader of {TOPIC}/0, with -9 in the middle: the longest pause between two "
                  f"acknowledgements was {production.longest_pause_ms():.0f} ms")
    cluster.node("start", victim)
    say("started", f"node {victim} again: all replicas in sync after {cluster.await_in_sync():.1f} s")
    return {(ack["partition"], ack["offset"]) for ack in acks}


def consume(cluster, expected, *arguments):
    records, seconds = cluster.trilog("consume", TOPIC, "--group", GROUP, *arguments)
    require(len(records) == expected, f"consumed {len(records)} records where {expected} were left")
    return records, seconds


def committed(cluster):
    """What the group has committed, how far behind it is, and which node keeps it."""
    lines, _ = cluster.trilog("group", "show", GROUP)
    partitions = lines[0]["partitions"]
    require(partitions, f"group {GROUP} has no committed offsets")
    return sum(p["committed_offset"] or 0 for p in partitions), sum(p["lag"] for p in partitions), lines[0]["coordinator"]


def verify(rows, acknowledged, records):
    got = collections.Counter(json.loads(r["value"])["InvoiceNo"] for r in records)
    wanted = collections.Counter(row["InvoiceNo"] for row in rows)
    missing, extra = wanted - got, got - wanted
    require(not missing, f"{sum(missing.values())} acknowledged invoices never came, among them {list(missing)[:5]}")
    require(not extra, f"{sum(extra.values())} invoices came again, among them {list(extra)[:5]}")
    require({(r["partition"], r["offset"]) for r in records} == acknowledged, "consumed offsets are not the acknowledged")
    values = {row["InvoiceNo"]: row for row in rows}
    for record in records:
        value = json.loads(record["value"])
        require(value == values[value["InvoiceNo"]], f"changed on the way: {record}")
        require(record["key"] == value["CustomerID"], f"the key is not the customer: {record}")
    say("verified", f"{len(records):,} invoices over the two runs, each exactly once, none changed")

    in_file, in_topic = by_customer(rows), by_customer(json.loads(r["value"]) for r in records)
    wrong = [customer for customer in in_file if in_file[customer] != in_topic[customer]]
    require(not wrong, f"the invoices of {len(wrong)} customers came in another order, among them {wrong[:5]}")
    say("verified", f"order within each of {len(in_file):,} customers as in the file "
                    f"(the busiest has {max(map(len, in_file.values()))} invoices)")


def show_two_down(cluster):
    """One replica of three is left: no write is acknowledged, and everything that was can be read."""
    leader = cluster.partitions()[0]["leader"]
    others = [node for node in (1, 2, 3) if node != leader]
    for node in others:
        cluster.node("kill", node)
    refused = cluster.run("produce", TOPIC, "one more", "--partition", "0", "--timeout", "2s")
    require(refused.returncode == 5, f"a write with two nodes down ended with {refused.returncode}: {refused.stderr}")
    error = json.loads(refused.stderr.splitlines()[-1])["error"]
    require(error["code"] == "NOT_ENOUGH_REPLICAS" and error["outcome"] == "NOT_WRITTEN", f"{error}")
    say("killed", f"nodes {others[0]} and {others[1]}: a write is refused with {error['code']}: {error['message']}")
    records, _ = cluster.trilog("consume", TOPIC, "--partition", "0")
    require(records, "nothing can be read with two nodes down")
    say("read", f"{len(records):,} invoices of {TOPIC}/0 from node {leader} alone")


def run(cluster):
    rows = read_invoices()
    half = INVOICE_COUNT // 2

    cluster.start()
    say("started", f"three nodes at {cluster.servers}, ready in {cluster.ready['ready_ms']:.0f} ms · data in {cluster.data}")
    cluster.trilog("topic", "create", TOPIC, "--partitions", "6")
    acknowledged = produce(cluster)
    first, seconds = consume(cluster, half, "--count", str(half))
    say("consumed", f"{half:,} with group {GROUP} in {seconds:.2f} s, committed after they were written out")

    offset_sum, _, coordinator = committed(cluster)
    cluster.node("kill", coordinator)
    rest, seconds = consume(cluster, INVOICE_COUNT - half)
    say("killed", f"node {coordinator}, which keeps the offsets of {GROUP}, with -9 at {offset_sum:,} committed")
    say("consumed", f"the other {len(rest):,} with group {GROUP} in {seconds:.2f} s")
    cluster.node("start", coordinator)
    verify(rows, acknowledged, first + rest)
    cluster.await_in_sync()
    offset_sum, lag, _ = committed(cluster)
    require(offset_sum == INVOICE_COUNT and lag == 0, f"group {GROUP}: committed {offset_sum}, lag {lag}")
    say("verified", f"group {GROUP}: {offset_sum:,} committed, lag 0; three replicas of each partition in sync")
    show_two_down(cluster)
    cluster.stop()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    require(os.access(TRILOG, os.X_OK), f"{TRILOG} is not built; say: make build")
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix="trilog-run-")
    cluster = Cluster(folder)
    try:
        run(cluster)
    except Deviation as deviation:
        print(f"FAILED    {deviation}\n          the data and output are left in {folder}", file=sys.stderr)
        if os.path.exists(cluster.output):
            with open(cluster.output, encoding="utf-8", errors="replace") as output:
                sys.stderr.writelines(f"          cluster: {line}" for line in output.readlines()[-10:])
        return 1
    except (KeyboardInterrupt, SystemExit):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        if cluster.process is not None and cluster.process.poll() is None:
            cluster.process.kill()
            cluster.process.wait(PATIENCE_S)
    shutil.rmtree(folder)
    say("done", f"in {time.monotonic() - began:.1f} s; nothing is left running, {folder} is removed")
    program = os.path.relpath(TRILOG, os.getcwd())
    say("next", f"{program} up          then, in another terminal:  {program} produce orders '{{\"id\":17}}' --key 17")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Deviation as deviation:
        sys.exit(f"FAILED    {deviation}")
    except KeyboardInterrupt:
        sys.exit(130)
