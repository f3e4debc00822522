"""Three `trilog serve` from empty folders: they become one cluster, and what does not belong to it stays outside."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

from trilog_process import TRILOG, TestCase, trilog, wait_until


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Node:
    """One `trilog serve` with its configuration in a file."""

    def __init__(self, folder, number, port, peers, data=None):
        self.folder, self.number, self.port = folder, number, port
        self.address = f"localhost:{port}"
        self.data = data or os.path.join(folder, f"data-{number}")
        handle, self.config = tempfile.mkstemp(prefix=f"node-{number}-", suffix=".toml", dir=folder)
        os.close(handle)
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f'node_id = {number}\ndata_dir = "{self.data}"\nlisten = "127.0.0.1:{port}"\n'
                       f"peers = {json.dumps(peers)}\ndefault_partitions = 3\n")
        self.log_path = self.config + ".log"
        self.process = None

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([TRILOG, "serve", "--config", self.config], stdout=log, stderr=log)
        return self

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def run(self, *arguments, **options):
        return trilog(*arguments, "--server", self.address, **options)

    def cluster(self):
        shown = self.run("cluster", "--json")
        return json.loads(shown.stdout) if shown.returncode == 0 else None

    def end(self, signal_name="kill"):
        if self.process is not None and self.process.poll() is None:
            getattr(self.process, signal_name)()
        return self.process.wait(30) if self.process is not None else None


class ServeCluster(TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="trilog-e2e-")
        ports = free_ports(6)
        self.clients, self.peer_ports = ports[:3], ports[3:]
        self.peers = [f"{i + 1}@127.0.0.1:{port}" for i, port in enumerate(self.peer_ports)]
        self.nodes = []

    def tearDown(self):
        for node in self.nodes:
            node.end()
            if os.environ.get("SHOW_LOGS"):
                print(node.number, node.log())
        shutil.rmtree(self.folder, ignore_errors=True)

    def node(self, number, **changes):
        arguments = {"port": self.clients[(number - 1) % 3], "peers": self.peers, **changes}
        node = Node(self.folder, number, **arguments)
        self.nodes.append(node)
        return node

    def start_three(self):
        nodes = [self.node(number).start() for number in (1, 2, 3)]
        self.await_up(nodes)
        return nodes

    def await_up(self, nodes):
        def up():
            shown = [node.cluster() for node in nodes]
            return all(s and [n["state"] for n in s["nodes"]] == ["up"] * 3 for s in shown)
        wait_until(up, 30, "a cluster of three")

    def test_empty_folders_become_one_cluster_that_lasts(self):
        nodes = self.start_three()
        self.assertEqual(len({node.cluster()["cluster_id"] for node in nodes}), 1)
        nodes[0].run("topic", "create", "orders", check=0)
        for i, node in enumerate(nodes):
            node.run("produce", "orders", f"value {i}", "--key", "k", check=0)
        for node in nodes:
            self.assertEqual(node.run("consume", "orders").stdout.split("\n")[:3], [f"value {i}" for i in range(3)])
        before = nodes[0].cluster()["cluster_id"]
        for node in nodes:
            node.end()
        for node in nodes:
            node.start()
        self.await_up(nodes)
        self.assertEqual(nodes[2].cluster()["cluster_id"], before)
        self.assertEqual(nodes[1].run("consume", "orders").stdout.split("\n")[:3], [f"value {i}" for i in range(3)])

    def test_a_node_that_waits_for_the_others_ends_when_it_is_told_to(self):
        def waits_and_ends(node):
            node.start()
            wait_until(lambda: node.run("cluster", "recover-quorum", "--dry-run", "--timeout", "1s").returncode in (0, 1),
                       20, "a node to ask")
            node.process.terminate()
            self.assertEqual(node.process.wait(8), 0)
            self.assertIn("stopping before it is ready", node.log())
        first = self.node(1)
        waits_and_ends(first)
        nodes = [first.start(), self.node(2).start(), self.node(3).start()]
        self.await_up(nodes)
        nodes[0].run("topic", "create", "orders", check=0)
        nodes[0].run("produce", "orders", "kept", check=0)
        for node in nodes:
            self.assertEqual(node.end("terminate"), 0)
        waits_and_ends(first)
        for node in nodes:
            node.start()
        self.await_up(nodes)
        self.assertEqual(nodes[1].run("consume", "orders", check=0).stdout, "kept\n")

    def test_a_lost_folder_is_filled_again(self):
        nodes = self.start_three()
        nodes[0].run("topic", "create", "orders", check=0)
        nodes[0].run("produce", "orders", "kept", "--key", "k", check=0)
        nodes[2].end()
        shutil.rmtree(nodes[2].data)
        nodes[2].start()
        self.await_up(nodes)

        def in_sync():
            shown = json.loads(nodes[0].run("topic", "show", "orders", "--json").stdout)
            return all(len(p["isr"]) == 3 for p in shown["partitions"])
        wait_until(in_sync, 30, "three replicas in sync")
        self.assertEqual(nodes[2].run("consume", "orders").stdout, "kept\n")

    def test_a_second_process_of_the_same_node_stays_outside(self):
        nodes = self.start_three()
        [port] = free_ports(1)
        twin = self.node(3, port=port, data=os.path.join(self.folder, "twin")).start()
        wait_until(lambda: twin.process.poll() is not None, 40, "the end of the twin")
        self.assertNotEqual(twin.process.returncode, 0)
        self.assertIn("in use", twin.log())
        self.assertNotIn("check failed", twin.log())
        nodes[0].run("produce", "orders", "x", check=4)  # nobody was disturbed, nothing was made
        self.await_up(nodes)

    def test_a_folder_of_another_cluster_is_refused(self):
        nodes = self.start_three()
        nodes[2].end()
        other = tempfile.mkdtemp(prefix="trilog-e2e-")
        try:
            single = Node(other, 3, free_ports(1)[0], [])
            single.start()
            wait_until(lambda: single.cluster() is not None, 20, "a cluster of one")
            single.end("terminate")
            stranger = self.node(3, data=single.data).start()
            wait_until(lambda: stranger.process.poll() is not None or "cluster" in stranger.log(), 20, "a refusal")
            # The session of the process that was killed has to end first: somebody listens at its port.
            wait_until(lambda: nodes[0].cluster()["nodes"][2]["state"] != "up", 20, "the end of node 3")
            time.sleep(1)
            self.assertNotEqual(nodes[0].cluster()["nodes"][2]["state"], "up")
            self.assertNotIn("check failed", stranger.log())
            stranger.end()
            nodes[2].start()
            self.await_up(nodes)
        finally:
            shutil.rmtree(other, ignore_errors=True)

    def test_two_folders_that_were_swapped_are_refused(self):
        nodes = self.start_three()
        for node in nodes[:2]:
            node.end("terminate")
        swapped = self.node(1, data=nodes[1].data).start()
        self.assertNotEqual(swapped.process.wait(20), 0)
        self.assertIn("belongs to node 2", swapped.log())
        for node in nodes[:2]:
            node.start()
        self.await_up(nodes)

    def test_a_list_that_takes_one_node_for_another_is_refused_on_both_sides(self):
        nodes = self.start_three()
        nodes[2].end("terminate")
        swapped = [f"{other}@{peer.split('@')[1]}" for other, peer in zip((2, 1, 3), self.peers)]
        confused = self.node(3, peers=swapped, data=nodes[2].data).start()
        for node in (confused, nodes[0]):
            wait_until(lambda node=node: "check peers of both" in node.log(), 20, "a refusal")
        self.assertNotEqual(nodes[0].cluster()["nodes"][2]["state"], "up")
        confused.end()
        nodes[2].start()
        self.await_up(nodes)

    def test_a_configuration_without_this_node_is_refused(self):
        node = self.node(7).start()
        self.assertEqual(node.process.wait(20), 2)
        self.assertIn("7", node.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
