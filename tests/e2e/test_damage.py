"""A bit flips in a sealed segment of one of three nodes: nobody is served it, and the file is mended from the others."""
import glob
import os
import tempfile
import unittest

from test_cluster_processes import Cluster
from trilog_process import TestCase, trilog, wait_until

LINES = [f"{i:05}" + "x" * 2000 for i in range(2000)]  # four segments


def content(path):
    with open(path, "rb") as file:
        return file.read()


def flip(path, byte):
    with open(path, "r+b") as file:
        file.seek(byte)
        old = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([old ^ 16]))


class Damage(TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="trilog-e2e-")
        self.addCleanup(self.folder.cleanup)
        self.cluster = Cluster(self.folder.name)
        self.addCleanup(self.cluster.__exit__)
        self.server = ",".join(self.cluster.ready["addresses"])
        self.run_("topic", "create", "t", "--partitions", "1", "--set", "segment.bytes=1048576")
        self.run_("produce", "t", stdin="\n".join(LINES) + "\n")

    def run_(self, *arguments, check=0, **options):
        return trilog(*arguments, "--server", self.server, check=check, timeout=60, **options)

    def segments(self, node):
        """Of the topic's partition, sealed ones only."""
        return sorted(glob.glob(os.path.join(self.cluster.data, f"node-{node}", "topics", "*", "0", "*.log")))[:-1]

    def all_is_read(self):
        return trilog("consume", "t", "--server", self.server, timeout=60).stdout.split() == LINES

    def test_on_a_running_leader(self):
        shown = self.run_("topic", "show", "t", "--json").stdout
        leader = next(n for n in (1, 2, 3) if f'"leader":{n}' in shown.replace(" ", ""))
        path = self.segments(leader)[1]
        whole = content(path)
        flip(path, len(whole) // 2)
        got = trilog("consume", "t", "--server", self.server, timeout=60).stdout.split()
        self.assertEqual(got, LINES[: len(got)], "nothing wrong is ever served")
        wait_until(lambda: content(path) == whole, 60, "the segment is mended")
        wait_until(self.all_is_read, 60, "everything is read")

    def test_it_is_shown_while_nobody_is_there_to_mend_it(self):
        shown = self.run_("topic", "show", "t", "--json").stdout
        leader = next(n for n in (1, 2, 3) if f'"leader":{n}' in shown.replace(" ", ""))
        address = next(a for a, n in zip(self.cluster.ready["addresses"], (1, 2, 3)) if n == leader)
        others = [n for n in (1, 2, 3) if n != leader]
        for other in others:
            self.cluster.node("kill", other, check=0)
        path = self.segments(leader)[1]
        whole = content(path)
        flip(path, len(whole) // 2)

        def shown_problem():
            trilog("consume", "t", "--timeout", "5s", "--server", address, timeout=60)
            return f"node {leader} found damage in 1 replica (t/0)" in trilog("cluster", "--server", address, timeout=60).stdout

        wait_until(shown_problem, 30, "the damage shows")
        for other in others:
            self.cluster.node("start", other, check=0)
        wait_until(lambda: content(path) == whole, 60, "the segment is mended")
        wait_until(lambda: "damage" not in self.run_("cluster").stdout, 30, "it is not shown any more")
        wait_until(self.all_is_read, 60, "everything is read")

    def test_on_a_stopped_follower(self):
        shown = self.run_("topic", "show", "t", "--json").stdout
        follower = next(n for n in (1, 2, 3) if f'"leader":{n}' not in shown.replace(" ", ""))
        wait_until(lambda: len(self.segments(follower)) >= 2, what="segments of the follower")
        self.cluster.node("stop", follower, check=0)
        path = self.segments(follower)[1]
        whole = content(path)
        flip(path, len(whole) // 2)
        self.cluster.node("start", follower, check=0)
        self.assertTrue(self.all_is_read())
        wait_until(lambda: content(path) == whole, 60, "the scrub finds it, and it is mended")


if __name__ == "__main__":
    unittest.main()
