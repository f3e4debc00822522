"""The cases of test_grpc_client.py, run inside its virtual environment: produce, consume, commit, resume, and every error
code that a single node can give, with nothing but stock generated code."""
import importlib.util
import os
import struct
import threading
import time
import unittest

import grpc

from trilog_process import Broker
from trilog.v1 import admin_pb2 as a
from trilog.v1 import admin_pb2_grpc
from trilog.v1 import broker_pb2 as b
from trilog.v1 import broker_pb2_grpc


def load_status():
    """google/rpc/status.proto as generated here; the package google belongs to protobuf, so it is loaded by its path."""
    path = os.path.join(os.environ["PYTHONPATH"].split(os.pathsep)[0], "google/rpc/status_pb2.py")
    spec = importlib.util.spec_from_file_location("trilog_status_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Status


Status = load_status()


def error_of(call):
    """The trilog.v1.Error of a failed call, after checking that details and trailers say the same."""
    status = Status()
    trailers = dict(call.trailing_metadata())
    status.ParseFromString(trailers["grpc-status-details-bin"])
    error = b.Error()
    assert status.details[0].Unpack(error), "details hold no trilog.v1.Error"
    assert trailers["trilog-code"] == error.code, trailers
    assert trailers["trilog-retriable"] in ("true", "false")
    assert trailers["trilog-outcome"] == b.Error.Outcome.Name(error.outcome), trailers
    return error


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def record_batch(values, producer=(-1, -1, -1), magic=2, count=None):
    """A RecordBatch v2 by hand, after Kafka's documentation."""
    records = b""
    for i, value in enumerate(values):
        body = b"\0" + varint(0) + varint(i) + varint(-1) + varint(len(value)) + value + varint(0)
        records += varint(len(body)) + body
    now = int(time.time() * 1000)
    after_crc = struct.pack(">hiqqqhii", 0, len(values) - 1, now, now, *producer, len(values) if count is None else count) + records
    return struct.pack(">qiibI", 0, 9 + len(after_crc), -1, magic, crc32c(after_crc)) + after_crc


class GrpcClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Broker(arguments=["--topic", "orders:3", "--topic", "one:1", "--strict"])
        cls.channel = grpc.insecure_channel(cls.server.address)
        grpc.channel_ready_future(cls.channel).result(10)
        cls.broker = broker_pb2_grpc.BrokerStub(cls.channel)
        cls.admin = admin_pb2_grpc.AdminStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        cls.server.__exit__()

    def refused(self, status, code, outcome, method, request, says=""):
        with self.assertRaises(grpc.RpcError) as caught:
            method(request, timeout=10)
        self.assertEqual(caught.exception.code(), status, caught.exception.details())
        error = error_of(caught.exception)
        self.assertEqual((error.code, b.Error.Outcome.Name(error.outcome)), (code, outcome))
        self.assertIn(says, error.message)
        return error

    def test_the_smallest_client(self):
        where = self.broker.Produce(b.ProduceRequest(topic="orders", records=[b.Record(key=b"17", value=b"hello")])).positions[0]
        got = self.broker.Fetch(b.FetchRequest(topic="orders", partitions=[b.Position(partition=where.partition, offset=where.offset)]))
        self.assertEqual([(r.key, r.value) for r in got.partitions[0].records], [(b"17", b"hello")])
        self.assertEqual(got.partitions[0].next_offset, where.offset + 1)
        self.assertEqual(got.partitions[0].leader_node_id, 1)

    def test_absent_is_not_empty(self):
        where = self.broker.Produce(b.ProduceRequest(topic="one", records=[
            b.Record(), b.Record(key=b"", value=b""), b.Record(headers=[b.Header(key="h"), b.Header(key="h", value=b"")])])).positions
        got = self.broker.Fetch(b.FetchRequest(topic="one", partitions=[b.Position(partition=0, offset=where[0].offset)])).partitions[0].records
        self.assertEqual([(r.HasField("key"), r.HasField("value")) for r in got[:3]], [(False, False), (True, True), (False, False)])
        self.assertEqual([h.HasField("value") for h in got[2].headers], [False, True])

    def test_consume_commits_and_resumes(self):
        values = [f"v{i}".encode() for i in range(50)]
        self.broker.Produce(b.ProduceRequest(topic="orders", records=[b.Record(key=v, value=v) for v in values]))
        first = self.consume("resume", 20, commit=True)
        second = self.consume("resume", len(values) - 20, commit=True)
        self.assertTrue(set(values) <= set(first + second))
        self.assertEqual(len(set(first) & set(second)), 0)
        fetched = self.broker.FetchOffsets(b.FetchOffsetsRequest(group="resume")).offsets
        self.assertTrue(fetched)
        group = self.admin.DescribeGroup(a.DescribeGroupRequest(group="resume")).group
        self.assertEqual(sum(p.committed_offset for p in group.partitions), sum(o.offset for o in fetched))

    def consume(self, group, count, commit):
        requests = Requests(b.ConsumeRequest(start=b.ConsumeRequest.Start(topics=["orders"], group=group, credit_bytes=1 << 20)))
        stream = self.broker.Consume(iter(requests), timeout=20)
        values, positions = [], {}
        for response in stream:
            if response.WhichOneof("event") == "records":
                for record in response.records.records:
                    if len(values) < count:
                        values.append(record.value)
                        positions[response.records.partition] = record.offset + 1
                requests.send(b.ConsumeRequest(credit_bytes=response.credit_used))
            if len(values) >= count and commit:
                commit = False
                requests.send(b.ConsumeRequest(commit=b.ConsumeRequest.Commit(request_id=7, offsets=[
                    b.CommittedOffset(topic="orders", partition=p, offset=o, metadata="m") for p, o in positions.items()])))
            if response.WhichOneof("event") == "committed":
                self.assertEqual(response.committed.request_id, 7)
                self.assertFalse([o for o in response.committed.offsets if o.HasField("error")])
                break
        stream.cancel()
        time.sleep(0.2)
        return values

    def test_a_second_stream_of_a_group_is_refused(self):
        requests = Requests(b.ConsumeRequest(start=b.ConsumeRequest.Start(topics=["orders"], group="single")))
        stream = self.broker.Consume(iter(requests), timeout=20)
        next(iter(stream))
        second = self.broker.Consume(iter(Requests(b.ConsumeRequest(start=b.ConsumeRequest.Start(topics=["orders"], group="single")))), timeout=10)
        with self.assertRaises(grpc.RpcError) as caught:
            list(second)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)
        self.assertEqual(error_of(caught.exception).code, "GROUP_IN_USE")
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, "GROUP_IN_USE", "NOT_WRITTEN", self.broker.CommitOffsets,
                     b.CommitOffsetsRequest(group="single", offsets=[b.CommittedOffset(topic="orders", offset=0)]))
        self.refused(grpc.StatusCode.FAILED_PRECONDITION, "GROUP_NOT_EMPTY", "NOT_WRITTEN", self.admin.DeleteGroup,
                     a.DeleteGroupRequest(group="single"))
        stream.cancel()

    def test_raw_batches_both_ways_and_idempotence(self):
        producer = self.broker.InitProducer(b.InitProducerRequest())
        batch = record_batch([b"x", b"y"], (producer.producer_id, producer.producer_epoch, 0))
        request = b.ProduceRequest(topic="one", partition=0, record_batch=batch)
        first = self.broker.Produce(request).positions[0]
        again = self.broker.Produce(request).positions[0]
        self.assertEqual((again.offset, again.duplicate, first.duplicate), (first.offset, True, False))
        got = self.broker.Fetch(b.FetchRequest(topic="one", partitions=[b.Position(partition=0, offset=first.offset)],
                                               encoding=b.FetchRequest.RECORD_BATCHES)).partitions[0]
        self.assertEqual(got.record_batches[0][16:], batch[16:])
        self.assertEqual(struct.unpack(">q", got.record_batches[0][:8])[0], first.offset)
        hole = record_batch([b"z"], (producer.producer_id, producer.producer_epoch, 9))
        self.refused(grpc.StatusCode.ABORTED, "OUT_OF_ORDER_SEQUENCE", "NOT_WRITTEN", self.broker.Produce,
                     b.ProduceRequest(topic="one", partition=0, record_batch=hole))
        newer = record_batch([b"n"], (producer.producer_id, 3, 0))
        self.broker.Produce(b.ProduceRequest(topic="one", partition=0, record_batch=newer))
        old = record_batch([b"o"], (producer.producer_id, 2, 2))
        self.refused(grpc.StatusCode.ABORTED, "INVALID_PRODUCER_EPOCH", "NOT_WRITTEN", self.broker.Produce,
                     b.ProduceRequest(topic="one", partition=0, record_batch=old))

    def test_produce_stream_keeps_order_after_a_refusal(self):
        def requests():
            yield b.ProduceRequest(topic="one", partition=0, records=[b.Record(value=b"a")], request_id=1)
            yield b.ProduceRequest(topic="one", partition=0, record_batch=b"rubbish", request_id=2)
            yield b.ProduceRequest(topic="one", partition=0, records=[b.Record(value=b"c")], request_id=3)
            yield b.ProduceRequest(topic="one", partition=0, records=[b.Record(value=b"d")], request_id=4, resume=True)
        answers = list(self.broker.ProduceStream(requests(), timeout=10))
        self.assertEqual([r.request_id for r in answers], [1, 2, 3, 4])
        codes = [r.error.code or (r.positions[0].error.code if r.positions else "") for r in answers]
        self.assertEqual(codes, ["", "CORRUPT_BATCH", "PREVIOUS_FAILED", ""])

    def test_every_error_a_single_node_can_give(self):
        code, produce, fetch = grpc.StatusCode, self.broker.Produce, self.broker.Fetch
        record = [b.Record(value=b"v")]
        no, na = "NOT_WRITTEN", "NOT_APPLICABLE"
        self.refused(code.INVALID_ARGUMENT, "INVALID_REQUEST", no, produce, b.ProduceRequest(topic="one"), "nothing to write")
        self.refused(code.INVALID_ARGUMENT, "INVALID_REQUEST", no, produce,
                     b.ProduceRequest(topic="one", partition=0, records=record, record_batch=b"x"), "both")
        self.refused(code.INVALID_ARGUMENT, "INVALID_REQUEST", no, produce, b.ProduceRequest(topic="one", partition=-1, records=record))
        for name in ("..", "a/b", "a\0b", "x" * 300, "größe"):
            self.refused(code.INVALID_ARGUMENT, "INVALID_TOPIC", no, produce, b.ProduceRequest(topic=name, records=record))
            self.refused(code.INVALID_ARGUMENT, "INVALID_TOPIC", no, self.admin.CreateTopic, a.CreateTopicRequest(name=name))
        self.refused(code.INVALID_ARGUMENT, "INVALID_CONFIG", no, self.admin.CreateTopic,
                     a.CreateTopicRequest(name="c", configs={"retention.mss": "1"}), "retention.ms")
        self.refused(code.INVALID_ARGUMENT, "INVALID_CONFIG", no, self.admin.CreateTopic,
                     a.CreateTopicRequest(name="c", configs={"cleanup.policy": "compact"}), "not built")
        self.refused(code.INVALID_ARGUMENT, "RECORD_TOO_LARGE", no, produce,
                     b.ProduceRequest(topic="one", records=[b.Record(value=b"x" * (2 << 20))]), "max.message.bytes")
        good = record_batch([b"v"])
        flipped = good[:-1] + bytes([good[-1] ^ 1])
        for bad in (b"rubbish", flipped, good[:-1], good + b"x", record_batch([b"v"], magic=1), record_batch([b"v"], count=2)):
            self.refused(code.INVALID_ARGUMENT, "CORRUPT_BATCH", no, produce, b.ProduceRequest(topic="one", partition=0, record_batch=bad))
        self.refused(code.NOT_FOUND, "UNKNOWN_TOPIC", no, produce, b.ProduceRequest(topic="ordrs", records=record), "did you mean orders?")
        self.refused(code.NOT_FOUND, "UNKNOWN_PARTITION", no, produce, b.ProduceRequest(topic="one", partition=5, records=record))
        self.refused(code.NOT_FOUND, "UNKNOWN_GROUP", no, self.admin.DescribeGroup, a.DescribeGroupRequest(group="nobody"))
        self.refused(code.ALREADY_EXISTS, "TOPIC_EXISTS", no, self.admin.CreateTopic, a.CreateTopicRequest(name="one"))
        self.refused(code.INVALID_ARGUMENT, "INVALID_CONFIG", no, self.admin.CreateTopic, a.CreateTopicRequest(name="r3", replicas=3))
        error = self.refused(code.OUT_OF_RANGE, "OFFSET_OUT_OF_RANGE", na, fetch,
                             b.FetchRequest(topic="one", partitions=[b.Position(partition=0, offset=1 << 40)]))
        self.assertIn("end_offset", error.details)
        unknown = b.ProduceRequest(topic="one", records=record).SerializeToString() + b"\xba\x3e\x01x"  # field 999
        raw = self.channel.unary_unary("/trilog.v1.Broker/Produce", request_serializer=lambda data: data,
                                       response_deserializer=b.ProduceResponse.FromString)
        self.refused(code.UNIMPLEMENTED, "UNSUPPORTED_FIELD", no, raw, unknown, "999")

    def test_offsets_by_time(self):
        before = int(time.time() * 1000)
        where = self.broker.Produce(b.ProduceRequest(topic="one", records=[b.Record(value=b"t", timestamp_ms=before + 100_000)])).positions[0]
        listed = self.broker.ListOffsets(b.ListOffsetsRequest(topic="one", spec=b.ListOffsetsRequest.TIMESTAMP,
                                                              partitions=[b.Position(partition=0, timestamp_ms=before + 50_000)])).offsets[0]
        self.assertEqual((listed.offset, listed.timestamp_ms), (where.offset, before + 100_000))

    def test_a_waiting_fetch_sees_the_next_record(self):
        end = self.broker.ListOffsets(b.ListOffsetsRequest(topic="one", spec=b.ListOffsetsRequest.LATEST)).offsets[0].offset
        future = self.broker.Fetch.future(b.FetchRequest(topic="one", max_wait_ms=8000, partitions=[b.Position(partition=0, offset=end)]))
        time.sleep(0.2)
        self.assertFalse(future.done())
        self.broker.Produce(b.ProduceRequest(topic="one", records=[b.Record(value=b"now")]))
        self.assertEqual([r.value for r in future.result(5).partitions[0].records], [b"now"])


class Requests:
    """A request stream that can be fed while it is read."""

    def __init__(self, first):
        self.items = [first]
        self.condition = threading.Condition()

    def send(self, item):
        with self.condition:
            self.items.append(item)
            self.condition.notify()

    def __iter__(self):
        while True:
            with self.condition:
                if not self.items and not self.condition.wait_for(lambda: self.items, timeout=15):
                    return
                item = self.items.pop(0)
            yield item


if __name__ == "__main__":
    unittest.main(verbosity=2)
