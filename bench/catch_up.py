#!/usr/bin/env python3
"""A follower comes back that missed much: bench/catch_up.py [BUILD] [DIRECTORY] [--missed-mb N].

Three nodes, one synced partition, acks all. Measured is the latency of 1,000 records a second with all three in sync, then, after
a follower was away while --missed-mb were written, from the start of its process until it is in sync again. Shown are medians over
the rounds (lowest to highest). --quick makes every size tiny. Ends with 1 if something could not be measured."""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

from cluster_process import PATIENCE_S, ClusterProcess, run_json, wait_for

TOPIC = "live"


class Live:
    """1,000 records a second until the end of the block; then `latency_ms`."""

    def __init__(self, cluster, options):
        self.command = [cluster.program, "bench", "latency", "--server", ",".join(cluster.servers), "--topic", TOPIC, "--durability", "synced",
                        "--rate", str(options.rate), "--duration", "10m", "--record-bytes", "1024", "--json"]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        out = self.process.communicate(timeout=PATIENCE_S)[0]
        self.latency_ms = json.loads(out.splitlines()[-1])["latency_ms"]


def spread(values, unit):
    return f"{statistics.median(values):.3g}{unit} ({min(values):.3g}–{max(values):.3g})"


def one_round(cluster, options):
    """Latencies before, latencies meanwhile, and the seconds that catching up took."""
    with Live(cluster, options) as before:
        time.sleep(options.seconds)
    partition = cluster.partitions(TOPIC)[0]
    follower = next(n for n in partition["replicas"] if n != partition["leader"])
    cluster.node("stop", follower)
    others = [s for n, s in zip((1, 2, 3), cluster.servers) if n != follower]
    wait_for("it is out of the ISR", lambda: len(cluster.partitions(TOPIC, others)[0]["isr"]) == 2)
    run_json([os.path.join(options.build, "cluster_load"), "--server", others[0], "--topic", TOPIC, "--rounds", 1, "--batch-kb", 64,
              "--window", 64, "--record-bytes", 1024, "--total-mb", options.missed_mb, "--json"])
    with Live(cluster, options) as meanwhile:
        began = time.monotonic()
        cluster.node("start", follower)
        wait_for("it is in the ISR again", lambda: len(cluster.partitions(TOPIC, others)[0]["isr"]) == 3, PATIENCE_S, every_s=0.5)
        took = time.monotonic() - began
    return before.latency_ms, meanwhile.latency_ms, took


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default="build/release")
    parser.add_argument("directory", nargs="?", default=".")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--missed-mb", type=float, default=1000)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    if options.quick:
        options.rounds, options.missed_mb, options.rate, options.seconds = 1, 5, 200, 1
    with ClusterProcess(options.build, options.directory) as cluster:
        cluster.command("topic", "create", TOPIC, "--partitions", 1, "--server", cluster.servers[0])
        print(f"one partition, replication factor 3, synced; load {os.getloadavg()[0]:.1f}", flush=True)
        rounds = [one_round(cluster, options) for _ in range(options.rounds)]
    print(f"caught up {options.missed_mb:g} MiB in {spread([took for _, _, took in rounds], ' s')}")
    for rank in ("p50", "p99"):
        before, meanwhile = [b[rank] for b, _, _ in rounds], [m[rank] for _, m, _ in rounds]
        print(f"latency {rank} at {options.rate}/s, synced: {spread(meanwhile, ' ms')} meanwhile, {spread(before, ' ms')} before: "
              f"{spread([m / b for m, b in zip(meanwhile, before)], ' times')}; wanted p99 at most 2 times")
    return 0


if __name__ == "__main__":
    sys.exit(main())
