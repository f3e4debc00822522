#!/usr/bin/env python3
"""clang-tidy on the files that the last 20 commits touched, newest first, two at a time, within a time limit.

A touched header is checked through its .cc of the same name. What could not be reached in time is named; a finding, a
file that clang cannot read, or a run that checked nothing although something was touched fails."""
import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import time


def touched_files(commits):
    """C++ files of the last commits and of the working tree that still exist, the newest change first."""
    log = subprocess.check_output(["git", "log", f"-{commits}", "--format=", "--name-only"], text=True)
    now = subprocess.check_output(["git", "ls-files", "--modified", "--others", "--exclude-standard"], text=True)
    files = {}
    for path in (now + log).split("\n"):
        if path.endswith(".h"):
            path = path[:-2] + ".cc"
        if path.endswith(".cc") and os.path.exists(path):
            files[path] = True
    return list(files)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--commits", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("files", nargs="*", help="check these instead")
    options = parser.parse_args()
    os.chdir(subprocess.check_output(["git", "rev-parse", "--show-toplevel"], text=True).strip())

    root = os.getcwd()
    database = json.load(open(os.path.join(options.build, "compile_commands.json"), encoding="utf-8"))
    built = {os.path.relpath(os.path.join(e["directory"], e["file"]), root) for e in database}
    wanted = options.files or touched_files(options.commits)
    # What another preset builds (fuzzers) has no command here.
    files = [f for f in wanted if f in built]
    elsewhere = [f for f in wanted if f not in built]
    deadline = time.monotonic() + options.minutes * 60

    def check(path):
        left = deadline - time.monotonic()
        if left < 5:
            return path, None, ""
        command = ["clang-tidy-14", "-p", options.build, "--quiet", "--extra-arg=-Wno-unknown-warning-option",
                   "--extra-arg=-Wno-unused-command-line-argument", path]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=left)
        except subprocess.TimeoutExpired:
            return path, None, ""
        return path, done.returncode == 0, done.stdout + ("" if done.returncode == 0 else done.stderr)

    bad, late = [], []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for path, good, said in pool.map(check, files):
            if good is None:
                late.append(path)
            elif not good:
                bad.append(path)
                print(said.strip())
    for path in elsewhere:
        print(f"not part of {options.build}: {path}")
    for path in late:
        print(f"not reached within {options.minutes:g} minutes: {path}")
    print(f"tidy: {len(files) - len(late)} files checked, {len(bad)} with findings, {len(late)} not reached")
    return 1 if bad or (files and len(late) == len(files)) else 0


if __name__ == "__main__":
    sys.exit(main())
