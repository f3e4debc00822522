"""A cluster that lost a majority of its voters for good: a survivor goes on alone by an operator's word."""
import json
import shutil
import tempfile
import unittest

from test_cluster_processes import Cluster
from trilog_process import TestCase, trilog, wait_until


class Lost(TestCase):
    nodes = 3

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="trilog-e2e-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.cluster = Cluster(self.folder, self.nodes)
        self.addCleanup(self.cluster.__exit__)
        self.addresses = {n["node_id"]: n["address"] for n in self.cluster.ready["nodes"]}

    def ask(self, *arguments, at=1, within="20s", **options):
        return trilog(*arguments, "--server", self.addresses[at], "--timeout", within, **options)

    def partitions(self, topic, at=1):
        lines = self.ask("partition", "list", "--json", at=at, check=0).stdout.splitlines()
        return {p["partition"]: p for p in map(json.loads, lines) if p["topic"] == topic}

    def problems(self, at=1):
        return " ".join(json.loads(self.ask("cluster", "--json", at=at, check=0).stdout)["problems"])


class QuorumLost(Lost):
    def test_a_survivor_goes_on_alone(self):
        ask = self.ask
        ask("topic", "create", "orders", "--partitions", "3", check=0)
        ask("topic", "create", "loose", "--partitions", "3", "--replicas", "2", "--min-in-sync", "1", check=0)
        self.assertIn("1 topic is unsafe (loose)", self.problems())
        ask("produce", "orders", "--key-separator", ":", stdin="".join(f"k{i}:v{i}\n" for i in range(300)), check=0)
        ask("cluster", "check", "--wait", "30s", check=0)
        recover = ("cluster", "recover-quorum")
        self.assert_refused(ask(*recover, "--yes"), 1, "there is a quorum")

        self.cluster.node("kill", 2, check=0)
        wait_until(lambda: all(2 not in p["isr"] for p in self.partitions("loose", at=3).values()), 20, "an ISR without 2")
        mine = [p for p, each in self.partitions("loose").items() if each["isr"] == [1]]
        self.assertTrue(mine)
        ask("produce", "loose", "before", "-p", mine[0], check=0)
        self.cluster.node("kill", 3, check=0)
        wait_until(lambda: "there is no leader" in self.problems(), 20, "a lost quorum")
        self.assertIn("2 of the voters 1, 2, 3 must be up", self.problems())
        wait_until(lambda: "node 3 is down" in self.problems(), 5, "a lost node that nobody fences")
        self.assert_refused(ask("produce", "orders", "x", "-p", "0", within="2s"), 5)
        self.assertEqual(ask("consume", "orders", check=0).stdout.count("\n"), 300)

        asked = ask(*recover)
        self.assert_refused(asked, 2, "risk:", "nodes 2, 3 are given up", "--yes")
        dry = json.loads(ask(*recover, "--dry-run", "--json", check=0).stdout)
        self.assertEqual((dry["changed"], dry["name"], dry["lost"], dry["led"]), (False, "1", [2, 3], len(mine)))
        self.assertGreaterEqual(dry["given_up"], 3)
        self.assertIn("there is no leader", self.problems())
        done = ask(*recover, "--yes", check=0)
        self.assertIn("node 1 is the only voter now", done.stdout)
        self.assertIn("risk:", done.stderr)
        self.assertIn("unsafe: the quorum was recovered by node 1 alone", self.problems())
        self.assertIn("nobody is known to have all records", self.problems())
        self.assert_refused(ask(*recover, "--yes"), 1, "there is a quorum")

        # What only the survivor had in sync is written again; the rest waits for the operator.
        ask("produce", "loose", "after", "-p", mine[0], check=0)
        self.assertTrue(json.loads(ask("topic", "show", "orders", "--json", check=0).stdout)["unsafe"])
        self.assert_refused(ask("produce", "orders", "x", "-p", "0", within="2s"), 5, "nobody is known to have all")
        self.assertEqual(ask("consume", "orders", check=0).stdout.count("\n"), 300)
        asked = ask("partition", "elect", "orders", "--accept-loss")
        self.assert_refused(asked, 2, "leader of orders/0", "leader of orders/2", "node 2 does not answer", "--yes")
        elected = ask("partition", "elect", "orders", "--accept-loss", "--yes", "--json", check=0).stdout.splitlines()
        self.assertEqual([sorted(json.loads(line)["silent"]) for line in elected], [[2, 3]] * 3)
        wait_until(lambda: all(p["leader"] == 1 for p in self.partitions("orders").values()), what="leaders by hand")
        # min.insync.replicas is 2 all the same.
        self.assert_refused(ask("produce", "orders", "x", "-p", "0", within="2s"), 5, "1 in-sync replicas and needs 2")

        self.cluster.node("start", 2, check=0)
        wait_until(lambda: 2 in self.partitions("orders")[0]["isr"], 20, "a second copy")
        self.assertIn("voters are only 1 of", self.problems())
        ask("produce", "orders", "again", "-p", "0", check=0)
        self.cluster.node("start", 3, check=0)
        wait_until(lambda: "unsafe: the quorum" not in self.problems(), 20, "three voters")
        # The survivor is not needed any more.
        wait_until(lambda: sorted(self.partitions("orders")[0]["isr"]) == [1, 2, 3], 20, "three copies")
        self.cluster.node("kill", 1, check=0)
        wait_until(lambda: self.partitions("orders", at=2)[0]["leader"] in (2, 3), 20, "a new leader")
        ask("produce", "orders", "without 1", "-p", "0", at=2, check=0)
        self.assertEqual(ask("consume", "orders", at=3, check=0).stdout.count("\n"), 302)

    def test_a_survivor_that_was_started_again_recovers(self):
        self.ask("topic", "create", "orders", "--partitions", "1", check=0)
        for node in (1, 2, 3):
            self.cluster.node("kill", node, check=0)
        self.cluster.node("start", 3, "--timeout", "1s")
        wait_until(lambda: self.cluster.list()[3]["pid"], what="the process of node 3")
        wait_until(lambda: self.ask("cluster", "recover-quorum", "--dry-run", at=3).returncode == 0, 20, "a node to ask")
        self.ask("cluster", "recover-quorum", "--yes", at=3, check=0)
        wait_until(lambda: self.partitions("orders", at=3)[0]["leader"] is None, 20, "a node that serves")
        for node in (1, 2):
            self.cluster.node("start", node, check=0)
        self.ask("partition", "elect", "orders/0", "--accept-loss", "--yes", at=3, check=0)
        self.ask("cluster", "check", "--wait", "30s", check=0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
