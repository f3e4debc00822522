"""Clusters of several processes as their users meet them: what `up --nodes 3`, `node …`, `down` and `serve` do with
processes, folders, ports and configurations."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

from trilog_process import TRILOG, TestCase, trilog, wait_until


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Cluster:
    """`trilog up --nodes N --port any --json` in a folder of its own."""

    def __init__(self, folder, nodes=3, arguments=()):
        self.data = os.path.join(folder, "d")
        self.stderr = open(os.path.join(folder, "stderr"), "ab")
        command = [TRILOG, "up", "--data", self.data, "--port", "any", "--json", *arguments]
        if nodes:
            command += ["--nodes", str(nodes)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.stderr, text=True)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(30)
            with open(os.path.join(folder, "stderr"), encoding="utf-8", errors="replace") as log:
                raise AssertionError(f"not ready: exit {self.process.returncode}\n{log.read()}")
        self.ready = json.loads(line)

    def event(self):
        return json.loads(self.process.stdout.readline())

    def node(self, action, *arguments, **options):
        return trilog("node", action, *arguments, "--data", self.data, **options)

    def list(self):
        return {n["node_id"]: n for n in map(json.loads, self.node("list", "--json", check=0).stdout.splitlines())}

    def pids(self):
        return [n["pid"] for n in self.list().values() if n["pid"]]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        self.process.stdout.close()
        self.stderr.close()


class Processes(TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="trilog-e2e-")
        self.addCleanup(self.folder.cleanup)

    def test_three_processes_that_end_with_it(self):
        with Cluster(self.folder.name) as cluster:
            pids = [n["pid"] for n in cluster.ready["nodes"]]
            self.assertEqual(len(set(pids)), 3)
            self.assertEqual([n["node_id"] for n in cluster.ready["nodes"]], [1, 2, 3])
            self.assertEqual(len(cluster.ready["addresses"]), 3)
            self.assertEqual({n["state"] for n in cluster.list().values()}, {"up"})
            for node in (1, 2, 3):
                self.assertTrue(os.path.isdir(os.path.join(cluster.data, f"node-{node}", "metadata")))
            cluster.process.send_signal(signal.SIGINT)
            self.assertEqual(cluster.process.wait(60), 0)
            self.assertEqual([p for p in pids if alive(p)], [])
            for node in (1, 2, 3):
                self.assertTrue(os.path.exists(os.path.join(cluster.data, f"node-{node}", "clean")), "a clean stop")
            self.assertEqual({n["state"] for n in cluster.list().values()}, {"down"})
        with Cluster(self.folder.name, nodes=None) as again:
            self.assertEqual(len(again.ready["nodes"]), 3, "it remembers how many nodes it has")

    def test_they_end_when_it_is_killed(self):
        with Cluster(self.folder.name) as cluster:
            pids = [n["pid"] for n in cluster.ready["nodes"]]
            os.kill(pids[1], signal.SIGSTOP)
            cluster.process.kill()
            cluster.process.wait(30)
            wait_until(lambda: not any(map(alive, pids)), what="the end of the nodes")
            self.assertEqual({n["state"] for n in cluster.list().values()}, {"down"})

    def test_a_killed_node_is_shown_and_starts_again(self):
        with Cluster(self.folder.name) as cluster:
            pid = cluster.ready["nodes"][1]["pid"]
            said = cluster.node("kill", 2, check=0).stdout
            self.assertIn("trilog node start 2", said)
            self.assertFalse(alive(pid))
            down = cluster.event()
            self.assertEqual((down["event"], down["node_id"], down["pid"]), ("node_down", 2, None))
            self.assertEqual(cluster.list()[2]["state"], "down")
            self.assertEqual(json.loads(cluster.node("kill", 2, "--json", check=0).stdout)["changed"], False)
            cluster.node("start", 2, check=0)
            up = cluster.event()
            self.assertEqual((up["event"], up["node_id"]), ("node_up", 2))
            self.assertNotEqual(up["pid"], pid)
            self.assertEqual(up["address"], cluster.ready["nodes"][1]["address"], "on its old port")
            self.assertEqual(cluster.list()[2]["state"], "up")
            self.assertEqual(json.loads(cluster.node("start", 2, "--json", check=0).stdout)["changed"], False)

    def test_a_stopped_node_has_stopped_cleanly(self):
        with Cluster(self.folder.name) as cluster:
            cluster.node("stop", 3, check=0)
            self.assertTrue(os.path.exists(os.path.join(cluster.data, "node-3", "clean")))
            self.assertEqual(cluster.event()["event"], "node_down")
            self.assertEqual(cluster.list()[3]["state"], "down")

    def test_a_rolling_restart_is_not_noticed_by_commands(self):
        """F18: what produces and what reads with a group go on, each on any node, with their ordinary retries."""
        with Cluster(self.folder.name) as cluster:
            servers = ",".join(a for a in cluster.ready["addresses"] if not a.startswith("unix:"))
            trilog("topic", "create", "t", "--partitions", "3", "--server", servers, check=0)
            produce = subprocess.Popen([TRILOG, "produce", "t", "--json", "--server", servers], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            consume = subprocess.Popen([TRILOG, "consume", "t", "-g", "g", "--follow", "--server", servers],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            over = threading.Event()
            sent, read = [], []

            def feed():
                while not over.wait(0.005):
                    sent.append(f"{len(sent)}")
                    produce.stdin.write(sent[-1] + "\n")
                    produce.stdin.flush()

            threads = [threading.Thread(target=feed), threading.Thread(target=lambda: read.extend(consume.stdout))]
            for thread in threads:
                thread.start()
            try:
                wait_until(lambda: read, 30, "a first record")
                for node in (1, 2, 3):
                    cluster.node("stop", node, check=0)
                    cluster.node("start", node, check=0)
                    wait_until(lambda: self.whole(servers), 60, "three in-sync replicas")
            finally:
                over.set()
                threads[0].join()
                _, complaints = produce.communicate(timeout=60)
            self.assertEqual((produce.returncode, complaints), (0, ""))
            wait_until(lambda: len(read) >= len(sent), 60, "all records")
            consume.send_signal(signal.SIGINT)
            threads[1].join()
            self.assertEqual(sorted(map(int, read)), list(range(len(sent))))
            self.assertIn(consume.wait(30), (0, 130))
            complaints = consume.stderr.read()
            consume.stderr.close()
            consume.stdout.close()
            self.assertNotIn("FENCED", complaints)
            lag = trilog("group", "show", "g", "--json", "--server", servers, check=0)
            self.assertEqual(sum(p["lag"] for p in json.loads(lag.stdout)["partitions"]), 0)

    @staticmethod
    def whole(servers):
        shown = trilog("topic", "show", "t", "--json", "--server", servers)
        return shown.returncode == 0 and all(len(p["isr"]) == 3 for p in json.loads(shown.stdout)["partitions"])

    def test_pause_and_resume(self):
        with Cluster(self.folder.name) as cluster:
            cluster.node("pause", 1, check=0)
            self.assertEqual(cluster.event()["event"], "node_paused")
            self.assertEqual(cluster.list()[1]["state"], "paused")
            self.assertEqual(json.loads(cluster.node("pause", 1, "--json", check=0).stdout)["changed"], False)
            cluster.node("resume", 1, check=0)
            self.assertEqual(cluster.event()["event"], "node_resumed")
            self.assertEqual(cluster.list()[1]["state"], "up")
            cluster.node("kill", 1, check=0)
            self.assert_refused(cluster.node("pause", 1), 5, "node 1 is down", "trilog node start 1")

    def test_commands_that_cannot_be(self):
        nothing = os.path.join(self.folder.name, "nothing")
        self.assert_refused(trilog("node", "list", "--data", nothing), 4, "no cluster")
        for nodes in ("2", "4", "7"):
            self.assert_refused(trilog("up", "--nodes", nodes, "--data", nothing), 2, "1, 3 or 5")
        self.assert_refused(trilog("up", "--nodes", "3", "--port", "65533", "--data", nothing), 2, "65538")
        self.assert_refused(trilog("up", "--nodes", "3", "--listen", "0.0.0.0", "--data", nothing), 2, "--insecure")
        self.assert_refused(trilog("up", "--nodes", "3", "--listen", "localhost:7", "--data", nothing), 2, "without a port")
        self.assertFalse(os.path.exists(nothing), "nothing was touched")
        with Cluster(self.folder.name) as cluster:
            self.assert_refused(cluster.node("kill", 4), 4, "no node 4", "nodes 1 to 3")
            self.assert_refused(cluster.node("kill", 0), 4, "no node 0")
            self.assertEqual(cluster.node("kill").returncode, 2)
            self.assert_refused(trilog("up", "--data", cluster.data, "--port", "any"), 5, "in use",
                                str(cluster.process.pid))
            self.assert_refused(trilog("up", "--data", cluster.data, "--nodes", "1"), 2, "3 nodes")
            self.assertEqual({n["state"] for n in cluster.list().values()}, {"up"})

    def test_only_processes_of_the_folder_are_signalled(self):
        with Cluster(self.folder.name) as cluster:
            cluster.node("kill", 2, check=0)
            # The number has come to mean another process.
            bystander = subprocess.Popen(["sleep", "100"])
            with open(f"/proc/{bystander.pid}/stat", encoding="utf-8") as stat:
                start = stat.read().rsplit(")", 1)[1].split()[19]
            try:
                for line in (f"{bystander.pid} 1\nready\nlocalhost:1\n", f"{bystander.pid} {start}\nready\nlocalhost:1\n"):
                    with open(os.path.join(cluster.data, "run-2"), "w", encoding="utf-8") as file:
                        file.write(line)
                    self.assertEqual(json.loads(cluster.node("kill", 2, "--json", check=0).stdout)["changed"], False)
                    self.assertTrue(alive(bystander.pid))
            finally:
                bystander.kill()
                bystander.wait()

    def test_detached_it_runs_until_down(self):
        data = os.path.join(self.folder.name, "d")
        ready = json.loads(trilog("up", "--nodes", "3", "--detach", "--data", data, "--port", "any", "--json",
                                  check=0).stdout.splitlines()[0])
        pids = [n["pid"] for n in ready["nodes"]]
        self.assertTrue(all(map(alive, pids)))
        self.assert_refused(trilog("down", "--data", data, "--wipe"), 2, "--yes")
        trilog("down", "--data", data, check=0)
        self.assertFalse(any(map(alive, pids)))
        trilog("down", "--data", data, "--wipe", "--yes", check=0)
        self.assertFalse(os.path.exists(data))

    def test_a_taken_port_is_named(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            if port > 65000:
                self.skipTest("no room for the ports of the others")
            result = trilog("up", "--nodes", "3", "--data", os.path.join(self.folder.name, "d"), "--port", str(port))
            self.assertIn(result.returncode, (1, 5), result.stderr)
            self.assertIn("node 1 ended", result.stderr)
            self.assertIn(str(port), result.stderr)

    def test_one_node_is_a_cluster_too(self):
        with Cluster(self.folder.name, nodes=1) as cluster:
            self.assertEqual(cluster.list()[1]["pid"], cluster.process.pid)
            cluster.node("kill", 1, check=0)
            self.assertEqual(cluster.process.wait(30), -signal.SIGKILL)
            self.assert_refused(cluster.node("start", 1), 5, "nothing runs", "trilog up")


class Configuration(TestCase):
    def check(self, *lines):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "node.toml")
            with open(path, "w", encoding="utf-8") as file:
                file.write("\n".join((f'data_dir = "{folder}/data"', 'listen = "localhost:9092"', *lines)))
            return trilog("serve", "--config", path, "--check", timeout=20)

    def test_a_quorum_that_cannot_be_is_refused(self):
        peers = '"1@localhost:9095", "2@localhost:9096", "3@localhost:9097"'
        self.assertEqual(self.check("node_id = 2", f"peers = [{peers}]").returncode, 0)
        self.assert_refused(self.check("node_id = 4", f"peers = [{peers}]"), 2, "does not name this node", "node_id = 4")
        self.assert_refused(self.check("node_id = 1", 'peers = ["1@localhost:1", "1@localhost:2", "3@localhost:3"]'), 2,
                            "two nodes have the id 1")
        self.assert_refused(self.check('peers = ["1@localhost:1", "2@localhost:2"]'), 2, "1, 3 or 5")
        self.assert_refused(self.check('peers = ["1@localhost:9092", "2@localhost:2", "3@localhost:3"]'), 2,
                            "a port of their own")
        self.assert_refused(self.check('peers = ["1@10.0.0.1:1", "2@10.0.0.2:1", "3@10.0.0.3:1"]'), 2, "insecure")
        self.assert_refused(self.check(f"peers = [{peers}]", 'peer_listen = "nowhere"'), 2, "peer_listen", "host:port")
        self.assert_refused(self.check(f"peers = [{peers}]", 'peer_lisen = "x:1"'), 2, "did you mean peer_listen?")


if __name__ == "__main__":
    unittest.main(verbosity=2)
