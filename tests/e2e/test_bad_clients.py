"""Clients that no library would write: they never read, promise more than they send, vanish in the middle of a frame. They
speak HTTP/2 by hand over a plain socket, so that nothing on their side is polite by itself."""
import contextlib
import os
import select
import socket
import struct
import threading
import time
import unittest

from trilog_process import Broker, TestCase, wait_until

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
WINDOW_MAX = 2**31 - 1


def field(number, value):
    """One protobuf field: bytes, text or a number."""
    def varint(n):
        out = b""
        while n >= 0x80:
            out += bytes([n & 0x7F | 0x80])
            n >>= 7
        return out + bytes([n])
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def produce_request(topic, value, request_id):
    return field(1, topic) + field(2, 0) + field(3, field(2, value)) + field(7, request_id)


def consume_start(topic, group=""):
    return field(1, field(1, topic) + (field(3, group) if group else b""))


class RawClient:
    """One connection. It obeys the server's windows, because otherwise the server would rightly hang up."""

    def __init__(self, broker, window=65_535):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", int(broker.address.rsplit(":", 1)[1])))
        self.received = b""
        self.windows = {0: 65_535}
        self.initial_window = 65_535
        self.may_be_reset = False
        self.data = {}  # what came on each stream
        self.next_stream = 1
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window))
        if window > 65_535:
            self.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", window - 65_535))

    def frame(self, kind, flags, stream, payload):
        self.socket.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)

    def call(self, method):
        """Opens a stream; what is sent on it are messages of the method's request."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.windows[stream] = self.initial_window
        headers = b""
        for name, value in ((":method", "POST"), (":scheme", "http"), (":path", "/trilog.v1.Broker/" + method),
                            (":authority", "localhost"), ("content-type", "application/grpc"), ("te", "trailers")):
            headers += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        self.frame(HEADERS, 4, stream, headers)
        return stream

    def send(self, stream, message, cut=None, patience=20):
        """True if the message left, False if the server gave no window for it in time."""
        payload = (b"\0" + struct.pack(">I", len(message)) + message)[:cut]
        while payload:
            room = min(self.windows[0], self.windows[stream], 16_384)
            if room <= 0:
                if not self.read_frames(patience):
                    return False
                continue
            self.frame(DATA, 0, stream, payload[:room])
            self.windows[0] -= len(payload[:room])
            self.windows[stream] -= len(payload[:room])
            payload = payload[room:]
            self.read_frames(0)
        return True

    def read_frames(self, patience):
        """Takes what is there, waiting for something that widens a window; never gives the server a window itself."""
        until = time.monotonic() + patience
        widened = False
        while not widened:
            if not select.select([self.socket], [], [], max(0, until - time.monotonic()))[0]:
                return False
            got = self.socket.recv(65_536)
            if not got:
                raise ConnectionError("the server hung up")
            self.received += got
            while len(self.received) >= 9:
                size = int.from_bytes(self.received[:3], "big")
                if len(self.received) < 9 + size:
                    break
                kind, flags, stream = self.received[3], self.received[4], int.from_bytes(self.received[5:9], "big")
                widened = self.take(kind, flags, stream, self.received[9:9 + size]) or widened
                self.received = self.received[9 + size:]
        return True

    def take(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & 1:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[at:at + 6])
                if name == 4:
                    for each in self.windows:
                        self.windows[each] += value - self.initial_window if each else 0
                    self.initial_window = value
            self.frame(SETTINGS, 1, 0, b"")
            return True
        if kind == PING and not flags & 1:
            self.frame(PING, 1, 0, payload)
        if kind == WINDOW_UPDATE:
            self.windows[stream] = self.windows.get(stream, 0) + struct.unpack(">I", payload)[0]
            return True
        if kind == DATA:
            self.data[stream] = self.data.get(stream, b"") + payload
        if kind == GOAWAY or kind == RST_STREAM and not self.may_be_reset:
            raise ConnectionError(f"the server ended it: frame {kind}, {payload}")
        return False

    def messages(self, stream):
        """How many whole messages came on a stream."""
        count, at, data = 0, 0, self.data.get(stream, b"")
        while at + 5 <= len(data) and at + 5 + struct.unpack(">I", data[at + 1:at + 5])[0] <= len(data):
            at += 5 + struct.unpack(">I", data[at + 1:at + 5])[0]
            count += 1
        return count

    def wait_for_messages(self, stream, count):
        until = time.monotonic() + 20
        while self.messages(stream) < count and time.monotonic() < until:
            self.read_frames(0.1)
        if self.messages(stream) < count:
            raise AssertionError(f"{self.messages(stream)} messages, not {count}")

    def keep_company(self):
        """From now on a thread answers pings until the connection ends."""
        def answer():
            with contextlib.suppress(OSError, ValueError):
                while True:
                    self.read_frames(60)
        threading.Thread(target=answer, daemon=True).start()

    def vanish(self):
        """As a machine that loses its power: no goodbye, and a reset for whatever still comes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def memory_mib(broker, name="VmRSS"):
    with open(f"/proc/{broker.pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name + ":")) / 1024


def descriptors(broker):
    return len(os.listdir(f"/proc/{broker.pid}/fd"))


class BadClients(TestCase):
    def test_readers_that_never_read_cost_little_memory_and_hold_up_nobody_for_long(self):
        """Once without reading the socket at all, and once taking part in everything but never asking for more data."""
        for window in (WINDOW_MAX, 65_535):
            with contextlib.ExitStack() as stack:
                broker = stack.enter_context(Broker(arguments=["--topic", "t:1", "--set", "memory_limit=64MiB"]))
                values = [f"{i:04}" + "x" * 100_000 for i in range(300)]
                broker.run("produce", "t", stdin="".join(value + "\n" for value in values), check=0)
                before = memory_mib(broker)
                clients = [RawClient(broker, window) for _ in range(10)]
                for client in clients:
                    client.may_be_reset = True
                    stack.callback(client.vanish)
                    for _ in range(30):
                        client.send(client.call("Consume"), consume_start("t"))
                if window == 65_535:
                    for client in clients:
                        client.keep_company()
                for _ in range(5):
                    consumed = broker.run("consume", "t", "--timeout", "60s", check=0, timeout=100).stdout.split()
                    self.assertEqual(consumed, values)
                    broker.run("produce", "other", "x", check=0)
                self.assertLess(memory_mib(broker, "VmHWM"), before + 2 * 64)

    def test_a_producer_that_never_takes_its_answers_is_not_read_any_more(self):
        for size, sent_max in ((100, 300_000), (20_000, 20_000)):
            with Broker(arguments=["--topic", "t:1"]) as broker:
                before = memory_mib(broker)
                client = RawClient(broker)
                stream = client.call("ProduceStream")
                sent = 0
                while sent < sent_max and client.send(stream, produce_request("t", b"x" * size, sent + 1), patience=2):
                    sent += 1
                self.assertLess(sent, sent_max, "the server reads on and on")
                broker.run("produce", "t", "another", check=0)
                self.assertLess(memory_mib(broker), before + 128, f"{sent} requests of {size} bytes")
                client.vanish()
                self.assertEqual(broker.stop(), 0)

    def test_clients_that_vanish_in_the_middle_leave_nothing_behind(self):
        with Broker(arguments=["--topic", "t:1"]) as broker:
            broker.run("produce", "t", "first", check=0)
            broker.run("consume", "t", check=0)
            before = descriptors(broker)
            for i in range(30):
                client = RawClient(broker)
                stream = client.call("ProduceStream")
                for n in range(3):
                    client.send(stream, produce_request("t", f"{i}-{n}", n + 1))
                client.wait_for_messages(stream, 3)
                client.send(stream, produce_request("t", f"{i}-lost" + "x" * 1000, 4), cut=500)
                client.vanish()
            expected = ["first"] + [f"{i}-{n}" for i in range(30) for n in range(3)]
            self.assertEqual(broker.run("consume", "t", check=0).stdout.split(), expected)
            wait_until(lambda: descriptors(broker) <= before, 20, "descriptors given back")

    def test_a_group_is_free_again_when_its_reader_vanished(self):
        with Broker(arguments=["--topic", "t:1"]) as broker:
            broker.run("produce", "t", "x", check=0)
            for _ in range(3):
                client = RawClient(broker)
                stream = client.call("Consume")
                client.send(stream, consume_start("t", "g"))
                client.wait_for_messages(stream, 1)
                self.assert_refused(broker.run("consume", "t", "-g", "g"), 1, "g")
                client.vanish()
                wait_until(lambda: broker.run("consume", "t", "-g", "g").returncode == 0, 20, "the group is free")
                broker.run("group", "seek", "g", "--topic", "t", "--to", "start", "--yes", check=0)

    def test_calls_that_are_cut_or_nonsense_end_alone(self):
        with Broker(arguments=["--topic", "t:1"]) as broker:
            for payload in (b"\0\xff\xff\xff\xff", b"\0\x7f\xff\xff\xff" + b"x" * 1000, b"\1\0\0\0\5hello", b"\7\0\0\0\1x", b""):
                client = RawClient(broker)
                stream = client.call("Produce")
                client.frame(DATA, 1, stream, payload)
                with contextlib.suppress(ConnectionError):
                    client.read_frames(0.2)
                client.vanish()
            broker.run("produce", "t", "x", check=0)
            self.assertEqual(broker.run("consume", "t", check=0).stdout, "x\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
