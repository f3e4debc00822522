#!/usr/bin/env python3
"""The main job: what `make run` shows, on real events, through nothing but the command line of trilog.

Starts a broker in a fresh folder on free ports, produces 18,532 invoices keyed by customer, consumes half of them with a
group, kills the broker with -9, starts it again on the same folder, consumes the rest, and checks in the open that every
invoice came exactly once and every customer's invoices in the order of the file. Any deviation ends it with exit code 1,
the reason, and the folder left for a look; otherwise it leaves nothing behind."""
import collections
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TRILOG = os.environ.get("TRILOG", os.path.join(ROOT, "build/release/trilog"))
INVOICES = os.path.join(ROOT, "examples/data/retail_invoices.csv")
INVOICE_COUNT, CUSTOMER_COUNT = 18_532, 4_338
TOPIC, GROUP = "invoices", "billing"
PATIENCE_S = 60  # for one command; the whole job takes a few seconds


class Deviation(Exception):
    """Something is not as promised."""


def require(truth, message):
    if not truth:
        raise Deviation(message)


def say(what, text):
    print(f"{what:<10}{text}", flush=True)


class Broker:
    """A `trilog up` of our own, with its output in a file beside its data."""

    def __init__(self, folder):
        self.data = os.path.join(folder, "data")
        self.output = os.path.join(folder, "broker.log")
        self.process = None

    def start(self):
        self.output_start = os.path.getsize(self.output) if os.path.exists(self.output) else 0
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen([TRILOG, "up", "--data", self.data, "--port", "any", "--json"], stdout=output,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE_S
        self.ready = None
        while self.ready is None:
            require(self.process.poll() is None, f"the broker ended with {self.process.returncode} before it was ready")
            require(time.monotonic() < until, f"the broker was not ready after {PATIENCE_S} s")
            time.sleep(0.002)
            self.ready = self.ready_event()
        self.address = self.ready["addresses"][0]
        require(self.ready["nodes"][0]["pid"] == self.process.pid, "one node is the broker itself, yet the pids differ")

    def ready_event(self):
        with open(self.output, encoding="utf-8", errors="replace") as output:
            output.seek(self.output_start)
            for line in output:
                if line.startswith("{") and line.endswith("\n"):
                    event = json.loads(line)
                    if event.get("event") == "ready":
                        return event
        return None

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def stop(self):
        self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        require(code in (0, 143), f"the broker did not end cleanly on SIGTERM: {code}")

    def trilog(self, *arguments):
        """Runs one command against this broker; its JSON lines and the seconds it took."""
        command = [TRILOG, *arguments, "--json", "--server", self.address]
        began = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        except subprocess.TimeoutExpired:
            raise Deviation(f"still running after {PATIENCE_S} s: {' '.join(command)}") from None
        seconds = time.monotonic() - began
        require(done.returncode == 0, f"exit code {done.returncode}: {' '.join(command)}\n{done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines()], seconds


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


def produce(broker):
    lines, seconds = broker.trilog("produce", TOPIC, "--file", INVOICES, "--format", "csv", "--key-field", "CustomerID")
    summary, acks = lines[-1]["summary"], lines[:-1]
    require(len(acks) == INVOICE_COUNT, f"{len(acks)} acknowledgements for {INVOICE_COUNT} invoices")
    require(summary["records"] == INVOICE_COUNT and not summary["failed"] and not summary["unknown"], f"{summary}")
    require(summary["durability"] == "synced", f"acknowledged before the disk had it: {summary}")
    offsets = collections.defaultdict(list)
    for ack in acks:
        offsets[ack["partition"]].append(ack["offset"])
    for partition, found in offsets.items():
        require(sorted(found) == list(range(len(found))), f"gaps in the offsets of partition {partition}")
    say("produced", f"{INVOICE_COUNT:,} invoices of {CUSTOMER_COUNT:,} customers over {len(offsets)} partitions "
                    f"in {seconds:.2f} s · synced before every ack")
    return {(ack["partition"], ack["offset"]) for ack in acks}


def consume(broker, expected, *arguments):
    records, seconds = broker.trilog("consume", TOPIC, "--group", GROUP, *arguments)
    require(len(records) == expected, f"consumed {len(records)} records where {expected} were left")
    return records, seconds


def committed(broker):
    """What the group has committed, and how far behind it is."""
    lines, _ = broker.trilog("group", "show", GROUP)
    partitions = lines[0]["partitions"]
    require(partitions, f"group {GROUP} has no committed offsets")
    return sum(p["committed_offset"] or 0 for p in partitions), sum(p["lag"] for p in partitions), len(partitions)


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


def run(broker):
    rows = read_invoices()
    half = INVOICE_COUNT // 2

    broker.start()
    say("started", f"broker at {broker.address}, ready in {broker.ready['ready_ms']:.0f} ms · data in {broker.data}")
    acknowledged = produce(broker)
    first, seconds = consume(broker, half, "--count", str(half))
    say("consumed", f"{half:,} with group {GROUP} in {seconds:.2f} s, committed after they were written out")

    pid = broker.process.pid
    broker.kill()
    broker.start()
    offset_sum, _, _ = committed(broker)
    require(offset_sum == half, f"group {GROUP} had committed {half} records, after the restart it says {offset_sum}")
    say("killed", f"the broker (pid {pid}) with -9; started again on the same data, ready in "
                  f"{broker.ready['ready_ms']:.0f} ms, group {GROUP} still at {offset_sum:,}")

    rest, seconds = consume(broker, INVOICE_COUNT - half)
    say("consumed", f"the other {len(rest):,} with group {GROUP} in {seconds:.2f} s")
    verify(rows, acknowledged, first + rest)
    offset_sum, lag, partitions = committed(broker)
    require(offset_sum == INVOICE_COUNT and lag == 0, f"group {GROUP}: committed {offset_sum}, lag {lag}")
    say("verified", f"group {GROUP}: {offset_sum:,} committed, lag 0 in all {partitions} partitions")
    broker.stop()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    require(os.access(TRILOG, os.X_OK), f"{TRILOG} is not built; say: make build")
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix="trilog-run-")
    broker = Broker(folder)
    try:
        run(broker)
    except Deviation as deviation:
        print(f"FAILED    {deviation}\n          the broker's data and output are left in {folder}", file=sys.stderr)
        if os.path.exists(broker.output):
            with open(broker.output, encoding="utf-8", errors="replace") as output:
                sys.stderr.writelines(f"          broker: {line}" for line in output.readlines()[-10:])
        return 1
    except (KeyboardInterrupt, SystemExit):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        if broker.process is not None and broker.process.poll() is None:
            broker.kill()
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
