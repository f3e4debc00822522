#!/usr/bin/env python3
"""Runs what README.md and docs/*.md tell a reader to type: every ```sh block, in order, one shell per page.

The shell stops at the first command that fails, and the page is then wrong. It runs in a scratch folder that shows
examples/ of the repository, with build/release first on the PATH and, where the system allows it, with a network of its
own, so that the port numbers of the pages are free. Left out: the two commands that .ci/run gives anyway (make run, make
test). A block that only shows something is marked ```console or ```text and is not run."""
import argparse
import fcntl
import glob
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)
OWN_COMMANDS = re.compile(r"^\s*make (run|test)\s*(#.*)?$")
IN_OWN_NETWORK = "TRILOG_DOCS_OWN_NETWORK"


def enter_own_network():
    """Starts this script again in a network of its own, if that is permitted; there, raises the loopback device."""
    if os.environ.get(IN_OWN_NETWORK) == "yes":
        up, get, put = 0x1, 0x8913, 0x8914  # IFF_UP, SIOCGIFFLAGS, SIOCSIFFLAGS
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            name, flags = struct.unpack("16sH14x", fcntl.ioctl(s, get, struct.pack("16sH14x", b"lo", 0)))
            fcntl.ioctl(s, put, struct.pack("16sH14x", name, flags | up))
        return
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    if IN_OWN_NETWORK not in os.environ and shutil.which("unshare") and subprocess.run(
            unshare + ["true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        os.environ[IN_OWN_NETWORK] = "yes"
        os.execvp("unshare", unshare + [sys.executable] + sys.argv)


def script_of(page):
    """The page's commands as one shell script, each block announced with its line; and how many blocks there are."""
    text = open(page, encoding="utf-8").read()
    script, blocks = [], 0
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        commands = [c for c in block[1].split("\n") if c.strip() and not OWN_COMMANDS.match(c)]
        if commands:
            blocks += 1
            script.append(f"echo '-- {page}:{line}' >&2")
            script += commands
    return "\n".join(script) + "\n", blocks


def run_page(page, root, build, timeout_s):
    script, blocks = script_of(page)
    if blocks == 0:
        return 0, True
    environment = dict(os.environ, PATH=f"{build}:{os.environ['PATH']}")
    environment.pop("TRILOG_SERVER", None)
    with tempfile.TemporaryDirectory(prefix="trilog-docs-") as scratch:
        os.symlink(os.path.join(root, "examples"), os.path.join(scratch, "examples"))
        os.symlink(os.path.dirname(build), os.path.join(scratch, "build"))
        # Nothing may stay behind: whatever a failing page left in the background ends with its process group.
        shell = subprocess.Popen(["bash", "-euo", "pipefail", "-c", script], cwd=scratch, env=environment, text=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 start_new_session=True)
        try:
            said, _ = shell.communicate(timeout=timeout_s)
            good = shell.returncode == 0
            why = f"exit code {shell.returncode}"
        except subprocess.TimeoutExpired:
            good, said, why = False, "", f"still running after {timeout_s} s"
        finally:
            subprocess.run(["trilog", "down", "--data", os.path.join(scratch, "trilog-data")], env=environment,
                           capture_output=True, check=False, timeout=30)
            try:
                os.killpg(shell.pid, 9)
            except ProcessLookupError:
                pass
        if not good:
            print(f"{page} is wrong ({why}); its commands said:\n{said}")
    return blocks, good


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--timeout", type=int, default=120, help="seconds for one page")
    parser.add_argument("pages", nargs="*")
    options = parser.parse_args()
    enter_own_network()
    root = subprocess.check_output(["git", "rev-parse", "--show-toplevel"], text=True).strip()
    os.chdir(root)
    build = os.path.abspath(options.build)
    if not os.access(os.path.join(build, "trilog"), os.X_OK):
        sys.exit(f"{build}/trilog is not built")

    pages = options.pages or ["README.md", *sorted(glob.glob("docs/**/*.md", recursive=True))]
    blocks, wrong = 0, []
    for page in pages:
        count, good = run_page(page, root, build, options.timeout)
        blocks += count
        if not good:
            wrong.append(page)
    print(f"docs: {len(pages)} pages, {blocks} blocks run, {len(wrong)} pages wrong")
    return 1 if wrong or not blocks else 0


if __name__ == "__main__":
    sys.exit(main())
