"""Faults of the machine, on the real program: a full disk, a failing sync, few descriptors, damaged files, clients that
behave badly."""
import contextlib
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import unittest

from trilog_process import TRILOG, Broker, TestCase, wait_until


def need(tool):
    if shutil.which(tool) is None:
        raise unittest.SkipTest(f"{tool} is not installed")


@contextlib.contextmanager
def tmpfs(megabytes):
    if os.geteuid() != 0:
        raise unittest.SkipTest("mounting a small file system needs root")
    with tempfile.TemporaryDirectory() as folder:
        mount = os.path.join(folder, "m")
        os.mkdir(mount)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", mount], check=True)
        try:
            yield mount
        finally:
            subprocess.run(["umount", mount], check=True)


class Disk(TestCase):
    def test_a_full_disk_refuses_records_and_recovers_by_itself(self):
        with tmpfs(64) as mount, Broker(data=mount, arguments=["--topic", "big:1"]) as broker:
            ballast = os.path.join(mount, "ballast")
            broker.run("produce", "big", "first", check=0)
            with open(ballast, "wb") as file:
                space = os.statvfs(mount)
                file.write(b"\0" * (space.f_bavail * space.f_frsize - (3 << 20)))  # under the reject mark of 4 MiB
            written = ["first"]
            while True:  # the broker looks once a second
                result = broker.run("produce", "big", f"r{len(written)}", "--timeout", "5s")
                if result.returncode != 0:
                    break
                written.append(f"r{len(written)}")
                self.assertLess(len(written), 1000)
            self.assert_refused(result, 5, "disk", "free")
            self.assertEqual(broker.run("consume", "big", "-g", "g", check=0).stdout.split(), written)
            broker.run("topic", "create", "while-full", check=0)
            os.remove(ballast)
            broker.run("produce", "big", "second", "--timeout", "30s", check=0)
            self.assertEqual(broker.run("consume", "big", "-g", "g", check=0).stdout, "second\n")
            self.assertTrue(broker.alive())
            broker.kill()

    def test_a_failed_sync_ends_the_process_without_an_acknowledgement(self):
        """S3, on the real thing: strace makes the nth fdatasync fail."""
        need("strace")
        broker = Broker(expect_ready=False)
        broker.wrapper = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e",
                          "inject=fdatasync:error=EIO:when=6+"]  # counted per thread
        with broker:
            broker.start()
            acknowledged = 0
            for i in range(200):
                result = broker.run("produce", "t", f"v{i}", "-p", "0", "--timeout", "5s")
                if result.returncode != 0:
                    break
                acknowledged += 1
            else:
                self.fail("200 records although syncs fail")
            broker.process.wait(20)
            self.assertNotEqual(broker.process.returncode, 0)
            self.assertIn("sync", broker.log())
            broker.process.stdout.close()
            broker.stderr.close()
            broker.wrapper = []
            broker.start()
            values = broker.run("consume", "t", check=0).stdout.split()
            self.assertEqual(values[:acknowledged], [f"v{i}" for i in range(acknowledged)])

    def test_damage_is_named_and_never_served(self):
        with Broker(arguments=["--topic", "d:1"]) as broker:
            for i in range(20):
                broker.run("produce", "d", f"value-{i:04}" + "x" * 200, check=0)
            broker.stop()
            logs = [os.path.join(root, name) for root, _, names in os.walk(os.path.join(broker.data, "trilog-data", "node-1", "topics"))
                    for name in names if name.endswith(".log")]
            self.assertEqual(len(logs), 1)
            with open(logs[0], "r+b") as file:
                content = bytearray(file.read())
                at = content.index(b"value-0010")
                content[at] ^= 1
                file.seek(0)
                file.write(content)
            broker.start()
            result = broker.run("consume", "d", "--timeout", "20s")
            self.assertEqual(result.stdout.split(), [f"value-{i:04}" + "x" * 200 for i in range(10)])
            self.assert_refused(result, 1, ".log")
            rest = broker.run("consume", "d", "-p", "0", "--from", "11", check=0).stdout.split()
            self.assertEqual(rest, [f"value-{i:04}" + "x" * 200 for i in range(11, 20)])

    def test_a_lost_or_garbled_state_store_is_rebuilt(self):
        with Broker() as broker:
            broker.run("produce", "t", stdin="a\nb\nc\n", check=0)
            broker.run("consume", "t", "-g", "g", check=0)
            state = os.path.join(broker.data, "trilog-data", "node-1", "state")
            for damage in ("remove", "garble", "truncate"):
                broker.stop()
                if damage == "remove":
                    shutil.rmtree(state)
                else:
                    for name in os.listdir(state):
                        path = os.path.join(state, name)
                        if os.path.isfile(path):
                            size = os.path.getsize(path)
                            with open(path, "r+b") as file:
                                if damage == "truncate":
                                    file.truncate(size // 2)
                                else:
                                    file.write(os.urandom(size))
                broker.start()
                self.assertEqual(broker.run("consume", "t", "-g", "g", check=0).stdout, "", damage)

    def test_derived_files_may_be_missing_or_garbage(self):
        with Broker(arguments=["--topic", "s:1"]) as broker:
            broker.run("topic", "alter", "s", "--set", "segment.bytes=1048576", check=0)
            broker.run("produce", "s", stdin="".join(f"{i:06}{'x' * 1000}\n" for i in range(4000)), check=0)
            broker.run("consume", "s", "-g", "g", "-n", "10", check=0)
            node = os.path.join(broker.data, "trilog-data", "node-1")
            derived = (".index", ".timeindex", ".checksum", ".snapshot", "leader-epochs", "marks")
            for damage in ("remove", "empty", "garbage"):
                broker.kill()
                for root, _, names in os.walk(node):
                    for name in names:
                        path = os.path.join(root, name)
                        if not name.endswith(derived) or "/metadata" in root:
                            continue
                        if damage == "remove":
                            os.remove(path)
                        else:
                            with open(path, "wb") as file:
                                file.write(b"" if damage == "empty" else os.urandom(700))
                broker.start()
                values = broker.run("consume", "s", check=0, timeout=120).stdout.split()
                self.assertEqual([int(v[:6]) for v in values], list(range(4000)), damage)


class Limits(TestCase):
    def test_few_descriptors_do_not_end_the_broker(self):
        """F20: more clients than descriptors are refused; what was connected goes on, and the same broker serves new clients
        when they are gone. Segments roll meanwhile: that takes descriptors as well."""
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
        with Broker(preexec=limit, arguments=["--topic", "t:1"]) as broker:
            broker.run("topic", "alter", "t", "--set", "segment.bytes=1048576", check=0)
            values = [f"{i:04}" + "x" * 20_000 for i in range(300)]
            producer = subprocess.Popen([TRILOG, "produce", "t", "--json", "--server", broker.address, "--timeout", "20s"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            def produce(some):
                producer.stdin.write("".join(value + "\n" for value in some))
                producer.stdin.flush()
                for _ in some:
                    self.assertNotIn('"error"', producer.stdout.readline())
            produce(values[:10])
            port = int(broker.address.rsplit(":", 1)[1])
            for part in range(2):
                held = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(200)]
                wait_until(lambda: "connection refused" in broker.log(), what="a line in the log")
                self.assert_refused(broker.run("consume", "t", "--timeout", "10s"), 5, "hangs up")
                produce(values[10 + part * 145:155 + part * 145])
                for each in held:
                    each.close()
                wait_until(lambda: broker.run("consume", "t", "-n", "1").returncode == 0, 20, "consume")
                self.assertEqual(broker.run("consume", "t", check=0).stdout.split(), values[:155 + part * 145])
                broker.run("produce", "other", f"{part}", check=0)
            producer.stdin.close()
            self.assertEqual(producer.wait(20), 0)
            producer.stdout.close()
            self.assertLess(broker.log().count("connection refused"), 20, "a line for each would fill the disk")
            self.assertEqual(sorted(broker.run("consume", "other", check=0).stdout.split()), ["0", "1"])
            self.assertEqual(broker.stop(), 0)
            broker.start()
            self.assertEqual(broker.run("consume", "t", check=0).stdout.split(), values)

    def test_takes_as_many_descriptors_as_the_system_allows(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1000))
        with Broker(preexec=limit) as broker:
            with open(f"/proc/{broker.pid}/limits", encoding="utf-8") as limits:
                soft = [line.split()[3] for line in limits if line.startswith("Max open files")]
            self.assertEqual(soft, ["1000"])

    def test_rubbish_on_the_port_is_survived(self):
        with Broker() as broker:
            host, port = "127.0.0.1", int(broker.address.rsplit(":", 1)[1])
            for rubbish in (b"GET / HTTP/1.0\r\n\r\n", os.urandom(10_000), b"\0" * 10_000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(5_000)):
                with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5) as connection:
                    connection.sendall(rubbish)
                    connection.settimeout(1)
                    with contextlib.suppress(OSError):
                        connection.recv(1000)
            broker.run("produce", "t", "x", check=0)

    def test_a_node_that_stops_gives_its_answers_first(self):
        with Broker(arguments=["--topic", "t:1"]) as broker:
            producer = subprocess.Popen([TRILOG, "produce", "t", "--json", "--server", broker.address, "--timeout", "10s"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            producer.stdin.write("".join(f"{i}\n" for i in range(2000)))
            producer.stdin.flush()
            first = producer.stdout.readline()
            self.assertIn('"offset"', first)
            self.assertEqual(broker.stop(), 0)
            producer.stdin.close()
            acknowledged = 1 + sum(1 for line in producer.stdout if '"error"' not in line and '"summary"' not in line)
            producer.wait(30)
            producer.stdout.close()
            broker.start()
            self.assertGreaterEqual(len(broker.run("consume", "t", check=0).stdout.split()), acknowledged)


if __name__ == "__main__":
    unittest.main(verbosity=2)
