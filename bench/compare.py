#!/usr/bin/env python3
"""The broker beside this machine's limits, both measured in turn in the same minute: bench/compare.py [BUILD] [DIRECTORY].

Starts `trilog up` in a temporary folder of DIRECTORY and runs `trilog bench` against it. Before each measurement of the
broker comes its yardstick: copy_limit with the same bytes, batch size and durability. Shown are medians over the rounds
and the share of the limit; README.md beside this file tells how to read them. --quick makes every size tiny: that tests
this program and measures nothing. Ends with 1 if something could not be measured."""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

from broker_process import BrokerProcess

PATIENCE_S = 300  # for one measurement
IN_FLIGHT_BYTES = 5 << 20  # of the yardstick
RECORD_BYTES = 1024


def run(command):
    """The JSON lines that a measuring command prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=PATIENCE_S, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.decode().splitlines() if line]


class Comparison:
    def __init__(self, options):
        self.options = options
        self.program = os.path.join(options.build, "trilog")
        self.copy_limit = os.path.join(options.build, "copy_limit")
        self.grpc_limit = os.path.join(options.build, "grpc_limit")
        self.count = 0

    def limit(self, durability, batch_bytes, total_bytes, window):
        command = [self.copy_limit, "--directory", self.options.directory, "--json", "--rounds", "1",
                   "--total-mb", str(total_bytes / 2**20), "--batch-kb", str(batch_bytes / 1024),
                   "--record-bytes", str(RECORD_BYTES), "--window", str(window)]
        return run(command + (["--sync"] if durability == "synced" else []))[0]

    def bench(self, broker, action, *arguments):
        before = broker.cpu_seconds()
        figures = run([self.program, "bench", action, "--server", broker.address, "--json", *arguments])[-1]
        figures["broker_cpu_seconds"] = broker.cpu_seconds() - before
        return figures

    def topic(self):
        self.count += 1
        return f"bench-{self.count}"

    def produce(self, broker, durability, batch_bytes):
        total = (1 << 20) if self.options.quick else self.options.total_mb << 20
        shares, rates, limits, cpu = [], [], [], []
        for _ in range(self.options.rounds):
            limit = self.limit(durability, batch_bytes, total, max(1, IN_FLIGHT_BYTES // batch_bytes))
            figures = self.bench(broker, "produce", "--topic", self.topic(), "--durability", durability,
                                 "--records", str(total // RECORD_BYTES), "--record-bytes", str(RECORD_BYTES),
                                 "--batch-bytes", str(batch_bytes))
            rates.append(figures["mb_per_second"])
            limits.append(limit["mb_per_second"])
            shares.append(rates[-1] / limits[-1])
            cpu.append(figures["broker_cpu_seconds"] / (total / 1e9))
        self.show(f"produce, batches of {batch_bytes >> 10} KiB", durability, f"{statistics.median(rates):.4g} MB/s",
                  f"{statistics.median(limits):.4g} MB/s", shares, f"{statistics.median(cpu):.2f} CPU s per GB")

    def grpc(self, durability, *arguments):
        """The lines of grpc_limit: one of a stream, one of 1 caller, one of 64."""
        total_mb = 1 if self.options.quick else self.options.total_mb
        command = [self.grpc_limit, "--directory", self.options.directory, "--json", "--rounds", "1",
                   "--total-mb", str(total_mb), "--seconds", "0.1" if self.options.quick else "3", *arguments]
        return run(command + (["--sync"] if durability == "synced" else []))

    def raw(self, broker, durability):
        """Ready batches in one stream beside both limits, and single calls beside bare gRPC's."""
        rows = []
        for _ in range(self.options.rounds):
            total = (1 if self.options.quick else self.options.total_mb) << 20
            copy = self.limit(durability, 1 << 20, total, 5)
            bare, before = self.grpc(durability), broker.cpu_seconds()
            own = self.grpc(durability, "--server", broker.address)
            rows.append((copy, bare, own, broker.cpu_seconds() - before))
        def rate(figures):
            return f"{statistics.median(figures):.4g}"
        mb = [[copy["mb_per_second"], bare[0]["mb_per_second"], own[0]["mb_per_second"]] for copy, bare, own, _ in rows]
        copies, bares, owns = zip(*mb)
        self.show("stream of ready batches, 1 MiB a request", durability, rate(owns) + " MB/s", rate(copies) + " MB/s",
                  [own / copy for own, copy in zip(owns, copies)], "of copy_limit")
        self.show("the same beside bare gRPC", durability, rate(owns) + " MB/s", rate(bares) + " MB/s",
                  [own / bare for own, bare in zip(owns, bares)], "of grpc_limit")
        for index, callers in ((1, 1), (2, 64)):
            bares = [bare[index]["per_second"] for _, bare, _, _ in rows]
            owns = [own[index]["per_second"] for _, _, own, _ in rows]
            self.show(f"single calls, {callers} callers", durability, rate(owns) + "/s", rate(bares) + "/s",
                      [own / bare for own, bare in zip(owns, bares)], "of grpc_limit")
        one = statistics.median(own[1]["per_second"] for _, _, own, _ in rows)
        print(f"  64 callers together: {statistics.median(owns) / one:.1f} times the rate of one", flush=True)

    def consume(self, broker):
        total = (1 << 20) if self.options.quick else self.options.total_mb << 20
        topic = self.topic()
        size = ["--record-bytes", str(RECORD_BYTES), "--records", str(total // RECORD_BYTES)]
        self.bench(broker, "produce", "--topic", topic, "--durability", "replicated", *size)
        rates, limits, shares = [], [], []
        for _ in range(self.options.rounds):
            # The way out moves the same bytes as the way in; the write of the yardstick stands for the read.
            limits.append(self.limit("replicated", 1 << 20, total, 5)["mb_per_second"])
            rates.append(self.bench(broker, "consume", "--topic", topic, *size)["mb_per_second"])
            shares.append(rates[-1] / limits[-1])
        self.show("consume", "page cache", f"{statistics.median(rates):.4g} MB/s", f"{statistics.median(limits):.4g} MB/s",
                  shares, "")

    def latency(self, broker, durability):
        rate, seconds = (200, 1) if self.options.quick else (1000, 5)
        rows = []
        for _ in range(self.options.rounds):
            limit = self.limit(durability, RECORD_BYTES, (50 if self.options.quick else 2000) * RECORD_BYTES, 1)
            figures = self.bench(broker, "latency", "--topic", self.topic(), "--durability", durability,
                                 "--rate", str(rate), "--duration", f"{seconds}s", "--record-bytes", "100")
            rows.append((figures["latency_ms"], limit["latency_us"]))
        for rank in ("p50", "p99"):
            own = [figures[rank] for figures, _ in rows]
            limits = [limit[rank] / 1000 for _, limit in rows]
            self.show(f"latency {rank} at {rate}/s", durability, f"{statistics.median(own):.2f} ms",
                      f"{statistics.median(limits):.2f} ms", [a / b for a, b in zip(own, limits)], "", times=True)

    def show(self, what, durability, figure, limit, shares, remark, times=False):
        middle, low, high = statistics.median(shares), min(shares), max(shares)
        share = f"{middle:.1f} x ({low:.1f}–{high:.1f})" if times else f"{middle:.0%} ({low:.0%}–{high:.0%})"
        durability = {"replicated": "page cache"}.get(durability, durability)
        print(f"{what:<28} {durability:<10} {figure:>10}   limit {limit:>10}   {share:<18} {remark}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default="build/release")
    parser.add_argument("directory", nargs="?", help="where the bytes go; default: BUILD")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--total-mb", type=int, default=512)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    options.directory = options.directory or options.build
    if options.quick:
        options.rounds = 1

    folder = tempfile.mkdtemp(prefix="trilog-bench-", dir=options.directory)
    comparison = Comparison(options)
    broker = BrokerProcess(comparison.program, folder)
    try:
        broker.start()
        for durability in ("synced", "replicated"):
            for batch_bytes in (64 << 10, 1 << 20):
                comparison.produce(broker, durability, batch_bytes)
            comparison.raw(broker, durability)
        comparison.consume(broker)
        for durability in ("synced", "replicated"):
            comparison.latency(broker, durability)
        broker.end()
    finally:
        broker.abandon()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
