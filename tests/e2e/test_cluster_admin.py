"""What an operator asks of a cluster of three: its state, other leaders, a node drained, a partition given up."""
import json
import shutil
import tempfile
import unittest

from test_cluster_processes import Cluster
from trilog_process import TestCase, trilog, wait_until


class Operator(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="trilog-e2e-")
        cls.cluster = Cluster(cls.folder)
        cls.addresses = {n["node_id"]: n["address"] for n in cls.cluster.ready["nodes"]}
        cls.ask("topic", "create", "orders", "--partitions", "3", check=0)
        cls.ask("cluster", "check", "--wait", "60s", check=0)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()
        shutil.rmtree(cls.folder, ignore_errors=True)

    @classmethod
    def ask(cls, *arguments, at=1, **options):
        return trilog(*arguments, "--server", cls.addresses[at], "--timeout", "20s", **options)

    def partitions(self, topic="orders", at=1):
        lines = self.ask("partition", "list", "--json", at=at, check=0).stdout.splitlines()
        return {p["partition"]: p for p in map(json.loads, lines) if p["topic"] == topic}

    def leaders(self, at=1):
        return [p["leader"] for _, p in sorted(self.partitions(at=at).items())]

    def restore(self, *nodes):
        for node in nodes:
            self.cluster.node("start", node, check=0)
        self.ask("cluster", "check", "--wait", "60s", check=0)

    def test_partitions_are_listed(self):
        for partition in self.partitions().values():
            self.assertEqual(sorted(partition["isr"]), [1, 2, 3])
            self.assertEqual(partition["lagging"], [])
            self.assertIsNone(partition["problem"])
            self.assertIn(partition["leader"], (1, 2, 3))
        self.assertEqual(self.ask("partition", "list", "-q", check=0).stdout.split(), ["orders/0", "orders/1", "orders/2"])
        self.assertIn("epoch", self.ask("partition", "list", check=0).stdout)
        self.assertEqual(self.ask("partition", "list", "--problem", "--json", check=0).stdout, "")

    def test_a_leader_is_moved_through_any_node(self):
        before = self.partitions()[0]
        to = before["leader"] % 3 + 1
        name = "orders/0"
        dry = json.loads(self.ask("partition", "move-leader", name, "--to", to, "--dry-run", "--json", check=0).stdout)
        self.assertEqual((dry["changed"], dry["leader"]), (False, to))
        self.assertEqual(self.partitions()[0]["leader"], before["leader"])
        moved = json.loads(self.ask("partition", "move-leader", name, "--to", to, "--json", at=3, check=0).stdout)
        self.assertEqual(moved, {"action": "move-leader", "name": name, "changed": True, "leader": to,
                                 "leader_epoch": before["leader_epoch"] + 1})
        wait_until(lambda: self.partitions()[0]["leader"] == to, what="the new leader")
        self.ask("produce", "orders", "after the move", "-p", "0", check=0)
        again = self.ask("partition", "move-leader", name, "--to", to, check=0)
        self.assertIn("already", again.stdout)
        self.assert_refused(self.ask("partition", "move-leader", name, "--to", "9"), 1, "node 9 is not in sync")
        self.assert_refused(self.ask("partition", "move-leader", "orders/7", "--to", "1"), 4, "3 partitions")
        self.assert_refused(self.ask("partition", "move-leader", "nothing/0", "--to", "1"), 4, "nothing")
        self.assert_refused(self.ask("partition", "move-leader", "orders", "--to", "1"), 2, "TOPIC/PARTITION")

    def test_a_node_is_drained(self):
        leader = self.leaders()[1]
        count = sum(p["leader"] == leader for p in map(json.loads, self.ask(
            "partition", "list", "--internal", "--json", check=0).stdout.splitlines()))
        dry = json.loads(self.ask("cluster", "drain", leader, "--dry-run", "--json", check=0).stdout)
        self.assertEqual((dry["changed"], dry["moved"], dry["left"]), (False, count, 0))
        done = json.loads(self.ask("cluster", "drain", leader, "--json", at=2, check=0).stdout)
        self.assertEqual(done, {"action": "drain", "name": str(leader), "changed": True, "moved": count, "left": 0})
        wait_until(lambda: leader not in self.leaders(), what="other leaders")
        self.assertIn("leads nothing", self.ask("cluster", "drain", leader, check=0).stdout)
        self.assert_refused(self.ask("cluster", "drain", "9"), 4, "no node 9")

    def test_check_waits_until_all_is_well(self):
        self.addCleanup(self.restore, 3)
        self.cluster.node("kill", 3, check=0)

        def problems():
            checked = self.ask("cluster", "check", "--json")
            if checked.returncode == 0:
                return ""
            self.assertEqual(checked.returncode, 5)
            self.assertFalse(json.loads(checked.stdout)["healthy"])
            return " ".join(json.loads(checked.stdout)["problems"])
        wait_until(lambda: "node 3 is down" in problems() and "not in sync" in problems(), what="a node that is missed")
        lagging = [json.loads(line) for line in
                   self.ask("partition", "list", "--problem", "--json", check=0).stdout.splitlines()]
        self.assertIn("lagging", self.ask("topic", "show", "orders", check=0).stdout)
        self.assertTrue(all(p["lagging"] == [3] and p["problem"] for p in lagging) and len(lagging) >= 3, lagging)
        self.assertIn("node 3 is down", self.ask("cluster", "check", "--wait", "300ms").stdout)
        self.cluster.node("start", 3, check=0)
        self.assertTrue(json.loads(self.ask("cluster", "check", "--wait", "60s", "--json", check=0).stdout)["healthy"])
        self.assertEqual(self.ask("partition", "list", "--problem", "-q", check=0).stdout, "")

    def test_leaders_come_back_with_their_node(self):
        self.addCleanup(self.restore, 2)
        first = {p: each["replicas"][0] for p, each in self.partitions().items()}
        self.cluster.node("kill", 2, check=0)
        wait_until(lambda: 2 not in self.leaders(), what="other leaders")
        self.restore(2)
        mine = [p for p, node in first.items() if node == 2]
        wait_until(lambda: all(self.partitions()[p]["leader"] == 2 for p in mine), 30, "the leaders that were")

    def test_a_partition_is_given_up_only_on_purpose(self):
        self.addCleanup(self.restore, 1, 2, 3)
        self.ask("topic", "create", "fragile", "--partitions", "1", "--replicas", "2", "--min-in-sync", "1", check=0)
        for i in range(5):
            self.ask("produce", "fragile", f"both {i}", check=0)
        replicas = self.partitions("fragile")[0]["replicas"]
        last, lost = replicas
        self.ask("partition", "move-leader", "fragile/0", "--to", last, check=0)
        other = ({1, 2, 3} - set(replicas)).pop()
        self.cluster.node("kill", lost, check=0)
        wait_until(lambda: self.partitions("fragile", at=other)[0]["isr"] == [last], what="an ISR of one")
        for i in range(3):
            self.ask("produce", "fragile", f"one {i}", "--acks", "all", at=other, check=0)
        self.assert_refused(self.ask("partition", "elect", "fragile/0", "--accept-loss", "--yes", at=other), 1, "is led by")
        # The only replica that has all goes, and the one that lacks three records comes back.
        self.cluster.node("kill", last, check=0)
        self.cluster.node("start", lost, check=0)
        wait_until(lambda: self.partitions("fragile", at=other)[0]["leader"] is None, 30, "no leader")
        elect = ("partition", "elect", "fragile/0")
        self.assert_refused(self.ask(*elect, at=other), 2, "--accept-loss")
        asked = self.ask(*elect, "--accept-loss", at=other)
        self.assert_refused(asked, 2, "--yes", f"node {lost} reaches to offset 5", f"node {last} does not answer",
                            f"node {last} may have more")
        dry = json.loads(self.ask(*elect, "--dry-run", "--json", at=other, check=0).stdout)
        self.assertEqual((dry["changed"], dry["leader"], dry["silent"]), (False, lost, [last]))
        self.assertIsNone(self.partitions("fragile", at=other)[0]["leader"])
        self.ask(*elect, "--accept-loss", "--yes", at=other, check=0)
        wait_until(lambda: self.partitions("fragile", at=other)[0]["leader"] == lost, what="the leader by hand")
        self.ask("produce", "fragile", "afterwards", at=other, check=0)
        self.assertEqual(self.ask("consume", "fragile", at=other, check=0).stdout.split("\n")[:-1],
                         [f"both {i}" for i in range(5)] + ["afterwards"])
        self.restore(last)
        self.ask("topic", "delete", "fragile", "--yes", check=0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
