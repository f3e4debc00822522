"""A node that lost its metadata: it does not start, says how it can be rescued, and then has everything again."""
import json
import os
import shutil
import tempfile
import unittest

from test_cluster_processes import Cluster
from trilog_process import Broker, TestCase, trilog, wait_until


class Rescue(TestCase):
    def setUp(self):
        self.broker = Broker()
        self.addCleanup(self.broker.__exit__)
        self.data = os.path.join(self.broker.data, "trilog-data")
        self.metadata = os.path.join(self.data, "node-1", "metadata")

    def topics(self):
        return {t["name"]: t for t in self.broker.json("topic", "list", "--internal")}

    def records(self, topic):
        return self.broker.run("consume", topic, "-o", "%p %o %k %v\\n", check=0).stdout

    def fill(self):
        run = self.broker.run
        run("topic", "create", "orders", "--partitions", "3", "--retention", "30d", check=0)
        run("topic", "create", "loose", "--partitions", "2", "--durability", "replicated", check=0)
        run("produce", "orders", "--key-separator", ":", stdin="".join(f"k{i}:v{i}\n" for i in range(500)), check=0)
        run("produce", "loose", "one", check=0)
        run("consume", "orders", "-g", "billing", "-n", "200", check=0)

    def described(self):
        return {name: (t["topic_id"], t["durability"], len(t["partitions"]),
                       {k: v["value"] for k, v in t["configs"].items()}) for name, t in self.topics().items()}

    def refused_start(self, *says):
        result = trilog("up", "--data", self.data, "--port", "any", timeout=60)
        self.assert_refused(result, 1, "trilog rescue --data", *says)

    def lose(self, how):
        self.fill()
        self.before = self.described()
        self.content = {name: self.records(name) for name in ("orders", "loose")}
        self.group = self.broker.json("group", "show", "billing")
        self.assertEqual(self.broker.stop(), 0)
        how()

    def assert_all_there(self):
        self.broker.start()
        self.assertEqual(self.described(), self.before)
        for name, content in self.content.items():
            self.assertEqual(self.records(name), content)
        self.assertEqual(self.broker.json("group", "show", "billing"), self.group)
        self.assertEqual(self.broker.run("consume", "orders", "-g", "billing", "--json", check=0).stdout.count("\n"), 300)
        self.broker.run("produce", "orders", "--key-separator", ":", stdin="k:new\n", check=0)
        self.broker.run("topic", "create", "fresh", check=0)
        # And once more from the new metadata.
        self.assertEqual(self.broker.stop(), 0)
        self.broker.start()
        self.assertEqual(self.records("orders").count("\n"), 501)
        self.assertIn("fresh", self.topics())

    def test_lost_metadata(self):
        self.lose(lambda: shutil.rmtree(self.metadata))
        self.refused_start("its metadata is lost")
        self.assert_refused(trilog("rescue", "--data", self.data), 2, "3 topics", "orders (3)", "missing", "--yes")
        dry = json.loads(trilog("rescue", "--data", self.data, "--dry-run", "--json", check=0).stdout)
        self.assertEqual((dry["changed"], dry["topics"], dry["metadata"]), (False, 3, "missing"))
        self.refused_start()
        rescued = trilog("rescue", "--data", self.data, "--yes", check=0)
        self.assertIn("rescued 3 topics", rescued.stdout)
        self.assert_all_there()

    def test_damaged_metadata_is_set_aside(self):
        def damage():
            for name in os.listdir(self.metadata):
                if name.endswith(".log") or name in ("vote", "durable"):
                    path = os.path.join(self.metadata, name)
                    with open(path, "r+b") as file:
                        content = file.read()
                        file.seek(len(content) // 2)
                        file.write(bytes(255 - b for b in content[len(content) // 2:][:64]))
        self.lose(damage)
        self.refused_start()
        rescued = json.loads(trilog("rescue", "--data", os.path.join(self.data, "node-1"), "--yes", "--json",
                                    check=0).stdout)
        self.assertEqual((rescued["changed"], rescued["metadata"]), (True, "damaged"))
        self.assertTrue(os.listdir(self.metadata + ".lost-1"))
        self.assert_all_there()

    def test_what_needs_no_rescue(self):
        self.assert_refused(trilog("rescue", "--data", self.data, "--yes"), 5)
        self.broker.run("produce", "orders", "x", check=0)
        self.assertEqual(self.broker.stop(), 0)
        self.assert_refused(trilog("rescue", "--data", self.data, "--yes"), 1, "nothing has to be rescued")
        self.assert_refused(trilog("rescue", "--data", self.broker.data, "--yes"), 4, "no data folder")
        self.assert_refused(trilog("rescue", "--data", self.data, "--data", self.data, "--yes"), 1, "given twice")
        self.assertEqual(trilog("rescue").returncode, 2)
        self.broker.start()
        self.assertEqual(self.broker.run("consume", "orders", check=0).stdout, "x\n")


class RescueOfThree(TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="trilog-e2e-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.data = os.path.join(self.folder, "d")
        self.nodes = [os.path.join(self.data, f"node-{n}") for n in (1, 2, 3)]
        self.up()

    def up(self):
        self.cluster = Cluster(self.folder)
        self.addCleanup(self.cluster.__exit__)
        self.addresses = [n["address"] for n in self.cluster.ready["nodes"]]

    def ask(self, *arguments, at=1, **options):
        return trilog(*arguments, "--server", self.addresses[at - 1], "--timeout", "20s", **options)

    def topics(self):
        topics = map(json.loads, self.ask("topic", "list", "--internal", "--json", check=0).stdout.splitlines())
        return {t["name"]: (t["topic_id"], len(t["partitions"]), {k: v["value"] for k, v in t["configs"].items()})
                for t in topics}

    def test_metadata_lost_on_all_nodes(self):
        ask = self.ask
        ask("topic", "create", "orders", "--partitions", "3", "--retention", "30d", check=0)
        ask("topic", "create", "single", "--partitions", "3", "--replicas", "1", check=0)
        for topic in ("orders", "single"):
            lines = "".join(f"k{i}:v{i}\n" for i in range(300))
            ask("produce", topic, "--key-separator", ":", stdin=lines, check=0)
        ask("consume", "orders", "-g", "billing", "-n", "200", check=0)
        ask("cluster", "check", "--wait", "30s", check=0)
        before = self.topics()
        content = {t: ask("consume", t, "-o", "%p %o %k %v\\n", check=0).stdout for t in ("orders", "single")}
        group = json.loads(ask("group", "show", "billing", "--json", check=0).stdout)
        self.cluster.__exit__()
        wait_until(lambda: not any(self.cluster.pids()), what="the end of the nodes")

        # Somebody's folder that no metadata knows, and one whose file cannot be read: they stay (C12).
        shutil.rmtree(os.path.join(self.nodes[0], "metadata"))
        self.assert_refused(trilog("rescue", "--data", self.data, "--yes"), 1, "can be read", "recover-quorum")
        for node in self.nodes[1:]:
            shutil.rmtree(os.path.join(node, "metadata"))
        orphan = os.path.join(self.nodes[1], "topics", "0123456789abcdef0123456789abcdef", "0")
        os.makedirs(orphan)
        with open(os.path.join(orphan, "00000000000000000000.log"), "wb") as file:
            file.write(b"somebody's")
        alone = json.loads(trilog("rescue", "--data", self.nodes[0], "--dry-run", "--json", check=0).stdout)
        self.assertTrue(any("nodes 2, 3 have copies too" in remark for remark in alone["remarks"]), alone)
        three = [x for node in self.nodes for x in ("--data", node)]
        dry = json.loads(trilog("rescue", *three, "--dry-run", "--json", check=0).stdout)
        self.assertEqual((dry["changed"], dry["topics"], dry["nodes"]), (False, 3, 3))
        self.assertTrue(any("stays as it is" in remark for remark in dry["remarks"]), dry)
        self.assertFalse(any("copies too" in remark for remark in dry["remarks"]), dry)
        rescued = trilog("rescue", *three, "--yes", check=0)
        self.assertIn("start node 1, then the others", rescued.stdout)

        self.up()
        self.ask("cluster", "check", "--wait", "30s", check=0)
        self.assertEqual(self.topics(), before)
        for topic, records in content.items():
            self.assertEqual(self.ask("consume", topic, "-o", "%p %o %k %v\\n", check=0).stdout, records)
        self.assertEqual(json.loads(self.ask("group", "show", "billing", "--json", check=0).stdout), group)
        self.ask("produce", "orders", "--key-separator", ":", stdin="k:new\n", check=0)
        wait_until(lambda: "unsafe: the quorum" not in self.ask("cluster", check=0).stdout, 20, "three voters")
        self.assertTrue(os.path.exists(os.path.join(orphan, "00000000000000000000.log")))
        # The node that was first is not needed any more.
        self.cluster.node("kill", 1, check=0)
        self.ask("produce", "orders", "--key-separator", ":", at=2, stdin="k:newer\n", check=0)
        self.assertEqual(self.ask("consume", "orders", at=3, check=0).stdout.count("\n"), 302)


if __name__ == "__main__":
    unittest.main(verbosity=2)
