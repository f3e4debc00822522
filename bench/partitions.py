#!/usr/bin/env python3
"""Many partitions on three nodes of one machine: bench/partitions.py [BUILD] [DIRECTORY] [--partitions N].

How long it takes to create them (topics of at most --per-topic), to give the partitions of a killed node, a third of all, other
leaders, and to end all nodes cleanly and start them again until every partition has a leader and its replicas are in sync; the
descriptors and the memory of a node meanwhile. Each partition holds a record, as one without has no files. --quick makes it tiny. Ends with
1 if something could not be measured."""
import argparse
import os
import signal
import sys
import time

from cluster_process import ClusterProcess, run_json, wait_for


def show(what, figure, wanted):
    print(f"{what:<62} {figure:<24} wanted {wanted}", flush=True)


class Many:
    def __init__(self, options, cluster):
        self.options = options
        self.cluster = cluster
        counts = [options.per_topic] * (options.partitions // options.per_topic)
        if options.partitions % options.per_topic:
            counts.append(options.partitions % options.per_topic)
        self.topics = [(f"many-{number}", count) for number, count in enumerate(counts)]

    def states(self, servers=None):
        shown = [p for name, _ in self.topics for p in self.cluster.partitions(name, servers)]
        return [(p["leader"], len(p["isr"])) for p in shown]

    def create(self):
        began = time.monotonic()
        for name, count in self.topics:
            self.cluster.command("topic", "create", name, "--partitions", count, "--server", self.cluster.servers[0], "--timeout", "120s")
        return time.monotonic() - began

    def fill(self):
        """A record for each partition, so that all their files are there."""
        load = os.path.join(self.options.build, "cluster_load")
        for name, count in self.topics:
            run_json([load, "--server", self.cluster.servers[0], "--topic", name, "--rounds", 1, "--batch-kb", 1,
                              "--record-bytes", 100, "--total-mb", count / 1024, "--window", 256, "--json"])

    def whole(self):
        return all(leader and leader > 0 and isr == 3 for leader, isr in self.states())

    def descriptors(self):
        return max(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.cluster.pids().values())

    def restart(self):
        stopped = self.cluster.stop()
        began = time.monotonic()
        self.cluster.start()
        ready = time.monotonic() - began
        wait_for("every partition has its replicas", self.whole)
        return stopped, ready, time.monotonic() - began

    def failover(self):
        """Seconds from kill -9 of the node that leads most until no partition is without a living leader."""
        leaders = [leader for leader, _ in self.states()]
        victim = max(set(leaders), key=leaders.count)
        others = [s for n, s in zip((1, 2, 3), self.cluster.servers) if n != victim]
        os.kill(self.cluster.pids()[victim], signal.SIGKILL)
        took = wait_for("all partitions have living leaders",
                        lambda: all(leader not in (None, 0, -1, victim) for leader, _ in self.states(others)))
        began = time.monotonic()
        self.cluster.node("start", victim)
        wait_for("every partition has its replicas", self.whole)
        return leaders.count(victim), took, time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default="build/release")
    parser.add_argument("directory", nargs="?", default=".")
    parser.add_argument("--partitions", type=int, default=10_000)
    parser.add_argument("--per-topic", type=int, default=1_000)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    if options.quick:
        options.partitions, options.per_topic = 50, 30
    with ClusterProcess(options.build, options.directory) as cluster:
        many = Many(options, cluster)
        print(f"{options.partitions} partitions, replication factor 3, synced; load {os.getloadavg()[0]:.1f}", flush=True)
        show("create", f"{many.create():.1f} s", "60 s")
        many.fill()
        show("memory of the nodes", ", ".join(f"{mib:.0f}" for mib in cluster.memory_mib()) + " MiB", "-")
        show("descriptors of a node, at most", str(many.descriptors()), "12,000")
        count, took, back = many.failover()
        show(f"kill -9 of the leader of {count} partitions until all have another", f"{took:.1f} s", "6 s")
        show("that node starts again, until every partition is whole", f"{back:.1f} s", "-")
        stopped, ready, whole = many.restart()
        show("clean restart: all three end", f"{stopped:.1f} s", "with the start 15 s")
        show("clean restart: start until they serve", f"{ready:.1f} s", "with the end 15 s")
        show("clean restart: start until every partition is whole", f"{whole:.1f} s", "-")
        show("descriptors of a node after the restart", str(many.descriptors()), "12,000")
    return 0


if __name__ == "__main__":
    sys.exit(main())
