#!/usr/bin/env python3
"""What a broker costs while it stands there, and how long it takes to come back: bench/node.py [BUILD] [DIRECTORY].

Memory with one topic, after the first commit, with 100 topics; processor time while idle; memory while --through-gb go
through; restarts with --partitions and --data-gb of records, after a clean stop and after kill -9. --quick makes every size
tiny: that tests this program and measures nothing. Ends with 1 if something could not be measured."""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

from broker_process import PATIENCE_S, BrokerProcess


class Broker(BrokerProcess):
    def cli(self, *arguments, stdin=None):
        done = subprocess.run([self.program, *arguments, "--server", self.address], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, input=stdin, timeout=PATIENCE_S, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(arguments)}: {done.stderr.decode()}")


def show(what, figure, target):
    print(f"{what:<52} {figure:<26} wanted {target}", flush=True)


def idle(broker, options):
    settle = 0.5 if options.quick else 10
    broker.start()
    broker.cli("topic", "create", "orders")
    time.sleep(settle)
    show("memory, 1 topic, before the first commit", f"{broker.memory_mib():.1f} MiB", "16 MiB")
    broker.cli("produce", "orders", stdin=b"".join(b"%d\n" % i for i in range(1000)))
    broker.cli("consume", "orders", "--group", "billing", "-n", "500")
    time.sleep(settle)
    show("memory, after the first commit", f"{broker.memory_mib():.1f} MiB", "20 MiB")
    before, began = broker.cpu_seconds(), time.monotonic()
    time.sleep(1 if options.quick else 30)
    share = (broker.cpu_seconds() - before) / (time.monotonic() - began)
    show("processor, idle", f"{share:.3%} of a core", "0.1 %")
    for number in range(10 if options.quick else 99):
        broker.cli("topic", "create", f"topic-{number}")
    time.sleep(settle)
    show("memory, 100 topics", f"{broker.memory_mib():.1f} MiB", "24 MiB")


def flat(broker, options):
    seen = []
    pieces = 10
    records = max(100, int(options.through_gb * 1e9 / 1024 / pieces))
    for _ in range(pieces):
        broker.cli("bench", "produce", "--topic", "through", "--records", str(records), "--durability", "replicated")
        broker.cli("bench", "consume", "--topic", "through", "--records", str(records))
        seen.append(broker.memory_mib())
    show(f"memory while {options.through_gb:g} GB go through", f"{seen[0]:.1f} … {seen[-1]:.1f}, most {max(seen):.1f} MiB",
         "within 10 % of the first")
    broker.end()


def restarts(broker, options):
    broker.start()
    broker.cli("topic", "create", "wide", "--partitions", str(options.partitions))
    records = max(1000, int(options.data_gb * 1e9 / 1024))
    broker.cli("bench", "produce", "--topic", "wide", "--records", str(records), "--durability", "replicated",
               "--partitions", str(options.partitions))
    broker.end()
    what = f"with {options.partitions} partitions and {options.data_gb:g} GB"
    show(f"restart after a clean stop, {what}", f"{broker.start() * 1000:.0f} ms", "300 ms")
    # Something to recover: records that no mark knows of.
    broker.cli("bench", "produce", "--topic", "wide", "--records", str(max(1000, records // 20)))
    broker.end(kill=True)
    show(f"restart after kill -9, {what}", f"{broker.start() * 1000:.0f} ms", "2000 ms")
    broker.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default="build/release")
    parser.add_argument("directory", nargs="?", default=".")
    parser.add_argument("--through-gb", type=float, default=5)
    parser.add_argument("--data-gb", type=float, default=2)
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.through_gb, options.data_gb, options.partitions = 0.001, 0.001, 10
    folders = [tempfile.mkdtemp(prefix="trilog-node-", dir=options.directory) for _ in range(2)]
    brokers = [Broker(os.path.join(options.build, "trilog"), folder) for folder in folders]
    try:
        idle(brokers[0], options)
        flat(brokers[0], options)
        restarts(brokers[1], options)
    finally:
        for broker in brokers:
            broker.abandon()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
