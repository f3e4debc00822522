#!/usr/bin/env python3
"""Three brokers beside this machine's limits of three copies, in turn in the same minute: bench/replication.py [BUILD] [DIRECTORY].

Replication factor 3, acks all, records of 1 KiB in batches of 64 KiB, 4 MiB on their way. Before each measurement of the
brokers comes its yardstick with the same bytes and durability: copy_limit --replicas 3, or sync_limit --replicas 3 for the
latency at 1,000 records a second. Shown are medians over the rounds (lowest to highest). --quick makes every size tiny: that
tests this program and measures nothing. Ends with 1 if something could not be measured."""
import argparse
import os
import signal
import statistics
import sys
import time

from cluster_process import ClusterProcess, run_json, wait_for

BATCH_KIB = 64
IN_FLIGHT = 64  # batches: 4 MiB
RECORD_BYTES = 1024
SYNCED = {"synced": ["--sync"], "replicated": []}


def spread(values, unit="", digits=3):
    middle = f"{statistics.median(values):.{digits}g}"
    return f"{middle}{unit} ({min(values):.{digits}g}–{max(values):.{digits}g})"


def show(what, durability, figure, limit, share, wanted):
    print(f"{what:<34} {durability:<10} {figure:>26}   {limit:<30} {share:<26} wanted {wanted}", flush=True)


class Replication:
    def __init__(self, options, cluster):
        self.options = options
        self.cluster = cluster
        self.count = 0

    def tool(self, name, *arguments):
        return run_json([os.path.join(self.options.build, name), "--rounds", 1, "--record-bytes", RECORD_BYTES, "--json", *arguments])[0]

    def throughput(self, durability, partitions):
        common = ["--total-mb", self.options.total_mb, "--batch-kb", BATCH_KIB, "--window", IN_FLIGHT, *SYNCED[durability]]
        rates, limits, shares, cpu = [], [], [], []
        topic = f"load-{durability}-{partitions}"
        self.cluster.command("topic", "create", topic, "--partitions", partitions, "--set", f"durability={durability}",
                             "--server", self.cluster.servers[0])
        load = ["cluster_load", "--server", self.cluster.servers[0], "--topic", topic]
        # The first batch of a partition makes its files.
        self.tool(*load, "--total-mb", partitions * BATCH_KIB / 1024, "--batch-kb", BATCH_KIB, *SYNCED[durability])
        for _ in range(self.options.rounds):
            limit = self.tool("copy_limit", "--replicas", 3, "--directory", self.options.directory, *common)
            before = self.cluster.cpu_seconds()
            own = self.tool(*load, *common)
            cpu.append((self.cluster.cpu_seconds() - before) / (self.options.total_mb * (1 << 20) / RECORD_BYTES) * 1e6)
            rates.append(own["mb_per_second"])
            limits.append(limit["mb_per_second"])
            shares.append(100 * rates[-1] / limits[-1])
        self.cluster.command("topic", "delete", topic, "--yes", "--server", self.cluster.servers[0])
        show(f"produce, {partitions} partitions", durability, spread(rates, " MB/s"), "limit " + spread(limits, " MB/s"),
             spread(shares, " % of it"), "70 %" if durability == "replicated" else "60 %")
        show("  all three brokers", durability, spread(cpu, " core-s/M"), "", "", "4 core-s per million records")

    def one_latency(self, topic):
        return run_json([self.cluster.program, "bench", "latency", "--server", ",".join(self.cluster.servers), "--topic", topic,
                         "--partitions", 1, "--durability", "synced", "--rate", self.options.rate, "--duration", f"{self.options.seconds}s",
                         "--record-bytes", RECORD_BYTES, "--json"])[-1]["latency_ms"]

    def latency(self):
        rows = []
        for _ in range(self.options.rounds):
            limit = self.tool("sync_limit", "--replicas", 3, "--batch-kb", 4, "--total-mb", self.options.sync_mb,
                              "--directory", self.options.directory)
            rows.append((self.one_latency("latency"), limit["latency_us"]))
        for rank, wanted in (("p50", "-"), ("p99", "p99 of the syncs + 1.5 ms")):
            own, limits = [a[rank] for a, _ in rows], [b[rank] / 1000 for _, b in rows]
            show(f"latency {rank} at {self.options.rate}/s", "synced", spread(own, " ms"), "three writers' syncs " + spread(limits, " ms"),
                 spread([a - b for a, b in zip(own, limits)], " ms more"), wanted)

    def stopped_follower(self):
        """In turn with all three, and with a follower that stands still and has left the ISR."""
        changes, whole, reduced = [], [], []
        for _ in range(self.options.rounds):
            whole.append(self.one_latency("latency")["p99"])
            partition = self.cluster.partitions("latency")[0]
            follower = next(n for n in partition["replicas"] if n != partition["leader"])
            pid = self.cluster.pids()[follower]
            others = [s for n, s in zip((1, 2, 3), self.cluster.servers) if n != follower]
            os.kill(pid, signal.SIGSTOP)
            try:
                wait_for("the stopped follower leaves the ISR",
                         lambda: follower not in self.cluster.partitions("latency", others)[0]["isr"])
                servers, self.cluster.servers = self.cluster.servers, others
                reduced.append(self.one_latency("latency")["p99"])
            finally:
                self.cluster.servers = servers
                os.kill(pid, signal.SIGCONT)
            changes.append(100 * (reduced[-1] / whole[-1] - 1))
            wait_for("the follower is back in the ISR", lambda: len(self.cluster.partitions("latency")[0]["isr"]) == 3)
        show("latency p99, a follower stopped", "synced", spread(reduced, " ms"), "all three " + spread(whole, " ms"),
             spread(changes, " % change"), "below 20 % once it left the ISR")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default="build/release")
    parser.add_argument("directory", nargs="?", help="where the bytes go; default: BUILD")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--total-mb", type=float, default=300)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--partitions", type=int, nargs="*", default=[1, 6, 100])
    parser.add_argument("--only", choices=["throughput", "latency", "follower"])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    options.directory = options.directory or options.build
    options.sync_mb = 12 * options.seconds  # takes about as long as a measurement of the brokers, for a disk has its moods
    if options.quick:
        options.rounds, options.total_mb, options.rate, options.seconds, options.sync_mb = 1, 2, 200, 1, 0.1
    with ClusterProcess(options.build, options.directory) as cluster:
        measure = Replication(options, cluster)
        print(f"three brokers, replication factor 3, acks all; load {os.getloadavg()[0]:.1f}", flush=True)
        if options.only in (None, "throughput"):
            for durability in ("replicated", "synced"):
                for partitions in options.partitions:
                    measure.throughput(durability, partitions)
        if options.only in (None, "latency"):
            measure.latency()
        if options.only == "follower":
            measure.one_latency("latency")
        if options.only in (None, "follower"):
            measure.stopped_follower()
    return 0


if __name__ == "__main__":
    sys.exit(main())
