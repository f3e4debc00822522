"""kill -9 under load, again and again, with a recorded history: nothing acknowledged is lost (X1), nothing is there twice
(X4: the producer is idempotent), nothing refused is there (X5), committed offsets never go back (X13)."""
import collections
import json
import os
import random
import subprocess
import threading
import unittest

from trilog_process import TRILOG, Broker, TestCase

ROUNDS = int(os.environ.get("TRILOG_KILL_ROUNDS", "50"))
TOPIC, GROUP = "history", "readers"


class Kill(TestCase):
    def test_nothing_acknowledged_is_lost(self):
        seed = int(os.environ.get("TRILOG_SEED", "1"))
        rng = random.Random(seed)
        print(f"seed {seed}, {ROUNDS} rounds")
        self.acknowledged = {}    # (partition, offset) -> value
        self.sent = set()
        committed = collections.defaultdict(int)
        with Broker() as broker:
            broker.run("topic", "create", TOPIC, "--partitions", "3", check=0)
            for round_number in range(ROUNDS):
                self.one_round(broker, round_number, rng)
                broker.start()
                committed = self.check_commits(broker, committed)
                if rng.random() < 0.5:
                    broker.run("consume", TOPIC, "-g", GROUP, "-n", str(rng.randint(1, 400)), check=0)
                    committed = self.check_commits(broker, committed)
            self.check_records(broker)

    def one_round(self, broker, round_number, rng):
        """Produces until the broker is killed in the middle."""
        producer = subprocess.Popen([TRILOG, "produce", TOPIC, "--json", "--server", broker.address, "--timeout", "1s",
                                     "--key-separator", ":"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    stderr=subprocess.DEVNULL, text=True)
        enough = threading.Event()
        want = rng.randint(1, 300)

        def feed():
            try:
                for i in range(5_000):
                    value = f"{round_number}-{i}"
                    self.sent.add(value)
                    producer.stdin.write(f"{i % 50}:{value}\n")
                    if i % 20 == 0:
                        producer.stdin.flush()
                    if enough.is_set():
                        break
            except (BrokenPipeError, ValueError):
                pass
            finally:
                try:
                    producer.stdin.close()
                except BrokenPipeError:
                    pass

        feeder = threading.Thread(target=feed)
        feeder.start()
        seen = []
        for line in producer.stdout:
            answer = json.loads(line)
            if answer.get("offset") is not None and "error" not in answer:
                seen.append((answer["partition"], answer["offset"]))
            if len(seen) >= want and not enough.is_set():
                broker.kill()
                enough.set()
        feeder.join()
        producer.wait(30)
        producer.stdout.close()
        if not enough.is_set():
            broker.kill()
        for position in seen:
            # The answer does not repeat the value; it is looked up at the end by position.
            self.assertNotIn(position, self.acknowledged, "one offset acknowledged twice (X3)")
            self.acknowledged[position] = round_number

    def check_commits(self, broker, before):
        result = broker.run("group", "show", GROUP, "--json")
        if result.returncode == 4:
            self.assertFalse(before, "the group's commits are gone")
            return before
        now = collections.defaultdict(int)
        for partition in json.loads(result.stdout)["partitions"]:
            now[partition["partition"]] = partition["committed_offset"] or 0
        for partition, offset in before.items():
            self.assertGreaterEqual(now[partition], offset, "a committed offset went back (X13)")
        return now

    def check_records(self, broker):
        records = broker.json("consume", TOPIC)
        by_partition = collections.defaultdict(list)
        for record in records:
            by_partition[record["partition"]].append(record)
        values = collections.Counter(record["value"] for record in records)
        twice = [value for value, count in values.items() if count > 1]
        self.assertEqual(twice, [], "written twice (X4)")
        self.assertEqual([v for v in values if v not in self.sent], [], "never sent")
        there = {}
        for partition, rows in by_partition.items():
            self.assertEqual([row["offset"] for row in rows], list(range(len(rows))), f"offsets of {partition} have gaps")
            for row in rows:
                there[(partition, row["offset"])] = row["value"]
            # Order within a key, as sent (X9): rounds and numbers only go up.
            last = {}
            for row in rows:
                number = tuple(int(part) for part in row["value"].split("-"))
                self.assertGreater(number, last.get(row["key"], (-1, -1)), "order within a key")
                last[row["key"]] = number
        lost = [position for position in self.acknowledged if position not in there]
        self.assertEqual(lost, [], "acknowledged and gone (X1)")
        wrong = [p for p, round_number in self.acknowledged.items() if not there[p].startswith(f"{round_number}-")]
        self.assertEqual(wrong, [], "another record at an acknowledged offset (X3)")
        print(f"{len(self.acknowledged)} acknowledged, {len(records)} there, 0 lost, 0 doubled")
        self.assertGreater(len(self.acknowledged), ROUNDS)


if __name__ == "__main__":
    unittest.main(verbosity=2)
