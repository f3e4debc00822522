"""A world of one's own for tests that break networks and disks: namespaces of processes, mounts and the network, out of
Linux's `unshare`. They end with the first process in them, and everything that was made inside goes with them, however that
process ends. Needs root or namespaces for ordinary users; where neither is permitted, why_not() says so."""
import os
import shutil
import subprocess
import sys
import time

INSIDE = "TRILOG_SANDBOX"
UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]


def _unshare():
    return UNSHARE + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])


def inside():
    return INSIDE in os.environ


def why_not():
    """Why there can be no sandbox here, in words; None if there can."""
    missing = [tool for tool in ("unshare", "nsenter", "ip", "nft", "mount") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)}: not installed"
    attempt = ("mount -t tmpfs -o size=1m tmpfs /mnt && ip link set lo up && ip link add lan type bridge && "
               "ip link add veth1 type veth peer name veth2 && nft 'table inet chaos { }'")
    done = subprocess.run([*_unshare(), "sh", "-c", attempt], capture_output=True, text=True, timeout=60, check=False)
    return None if done.returncode == 0 else f"not permitted: {done.stderr.strip().splitlines()[-1:]}"


def enter():
    """Runs this program again, inside. Does not return."""
    sys.stdout.flush()
    os.environ[INSIDE] = "1"
    # The shell is the first process: it takes in those whose parents are gone.
    os.execvp("unshare", [*_unshare(), "sh", "-c", 'ip link set lo up; "$@"; exit $?', "sh", sys.executable, *sys.argv])


def small_disk(folder, megabytes):
    """Mounts one in an empty folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)


class Lan:
    """Each node in a network namespace of its own, all on one bridge with whoever makes this. Cuts drop packets, one way each."""

    def __init__(self, nodes):
        self.holders = {}
        self._run("ip", "link", "add", "lan", "type", "bridge")
        self._run("ip", "addr", "add", f"{self.address(254)}/24", "dev", "lan")
        self._run("ip", "link", "set", "lan", "up")
        for node in nodes:
            self._add(node)

    @staticmethod
    def address(node):
        return f"10.77.0.{node}"

    def enter(self, node):
        """What stands before a command that is to run at the node's place."""
        return ["nsenter", f"--net=/proc/{self.holders[node].pid}/ns/net"]

    def cut(self, a, b):
        """What `a` sends to `b` does not arrive any more."""
        self._run(*self.enter(b), "nft", f"add element inet chaos cut {{ {self.address(a)} }}")

    def heal(self):
        for node in self.holders:
            self._run(*self.enter(node), "nft", "flush set inet chaos cut")

    def end(self):
        for holder in self.holders.values():
            holder.kill()
            holder.wait(10)
        self.holders = {}

    def _add(self, node):
        holder = self.holders[node] = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{holder.pid}/ns/net") == own:
            if holder.poll() is not None:
                raise OSError("unshare --net failed")
            time.sleep(0.002)
        self._run("ip", "link", "add", f"node{node}", "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        self._run("ip", "link", "set", f"node{node}", "master", "lan", "up")
        inside_it = self.enter(node)
        self._run(*inside_it, "ip", "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
        self._run(*inside_it, "ip", "link", "set", "eth0", "up")
        self._run(*inside_it, "ip", "link", "set", "lo", "up")
        self._run(*inside_it, "nft", "table inet chaos { set cut { type ipv4_addr; }; chain arriving { "
                                     "type filter hook input priority 0; ip saddr @cut drop; }; }")

    @staticmethod
    def _run(*command):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
