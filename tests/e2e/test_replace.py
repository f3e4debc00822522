"""A voter whose folder is lost is replaced by hand where that does not happen by itself."""
import json
import os
import shutil
import unittest

from test_quorum_loss import Lost
from trilog_process import wait_until


class FolderLost(Lost):
    nodes = 5

    def test_a_lost_folder_is_replaced_by_hand(self):
        replace = ("cluster", "replace")
        self.assert_refused(self.ask(*replace, "9", "--yes"), 4, "no node 9")
        self.assert_refused(self.ask(*replace, "2", "--yes"), 1, "nothing has to be replaced")
        controller = json.loads(self.ask("cluster", "--json", check=0).stdout)["controller"]
        lost, away = [n for n in (5, 4, 3, 2) if n != controller][:2]
        for node in (lost, away):
            self.cluster.node("kill", node, check=0)
        wait_until(lambda: "start it with an empty one" in self.ask(*replace, lost, "--yes").stderr, 20,
                   "a node that is missed")
        shutil.rmtree(os.path.join(self.cluster.data, f"node-{lost}"))
        self.cluster.node("start", lost, check=0)
        wait_until(lambda: self.ask(*replace, lost, "--dry-run").returncode == 0, 20, "an empty folder that caught up")
        self.assertIn("no voter", self.problems(at=lost))
        self.assert_refused(self.ask(*replace, lost), 2, "--yes")
        done = json.loads(self.ask(*replace, lost, "--yes", "--json", check=0).stdout)
        self.assertEqual(done, {"action": "replace", "name": str(lost), "changed": True})
        wait_until(lambda: "no voter" not in self.problems(at=lost), what="a voter")
        self.assert_refused(self.ask(*replace, lost, "--yes"), 1, "nothing has to be replaced")


if __name__ == "__main__":
    unittest.main(verbosity=2)
