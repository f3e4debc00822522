#!/usr/bin/env python3
"""Shows that the crash test can fail: applies each patch of this folder, a deliberate bug, to a copy of the tree, builds
only crash_test there, and runs it. Exits 1 if a bug is not caught, or a patch no longer applies or builds.

  tests/mutants/run.py [--states N] [--seed S] [--only NAME] [--keep]
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SECONDS_PER_RUN = 900


def copy_tree(target):
    """Tracked and new files, but not what .gitignore names; everything except build and .git outside a repository."""
    listing = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                             capture_output=True)
    if listing.returncode != 0:
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(".git", "build"), dirs_exist_ok=True)
        return
    for name in filter(None, listing.stdout.decode().split("\0")):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def run(command, tree, **options):
    # So that a compiler cache recognises what it has compiled under another folder.
    environment = dict(os.environ, CCACHE_BASEDIR=str(tree), CCACHE_NOHASHDIR="1")
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, errors="replace",
                          **options)


def apply(patch, tree, *flags):
    return run(["git", "apply", "--whitespace=nowarn", *flags, str(patch)], tree).returncode == 0


def build(tree):
    result = run(["cmake", "--build", "build/release", "--target", "crash_test"], tree)
    return None if result.returncode == 0 else (result.stdout + result.stderr)[-3000:]


def crash_test(tree, states, seed):
    """(exit code, states needed, what it said)"""
    try:
        result = run(["build/release/crash_test", f"--states={states}", f"--seed={seed}"], tree,
                     timeout=SECONDS_PER_RUN)
    except subprocess.TimeoutExpired:
        return 1, None, "did not end"
    said = result.stderr.strip() or result.stdout.strip()
    found = re.search(r"VIOLATION in state (\d+): (.*)", said)
    if found:
        return result.returncode, int(found.group(1)), found.group(2)
    return result.returncode, None, said.split("\n")[-1][:100]


def try_mutant(patch, tree, options):
    """(ok, states, words) of one patch; leaves the tree as it was."""
    if not apply(patch, tree):
        return False, None, "DOES NOT APPLY"
    try:
        failure = build(tree)
        if failure is not None:
            sys.stderr.write(failure)
            return False, None, "DOES NOT BUILD"
        code, states, words = crash_test(tree, options.states, options.seed)
    finally:
        if not apply(patch, tree, "--reverse"):
            sys.exit(f"{patch.name}: cannot be taken back")
    return (True, states, words) if code == 1 else (False, None, f"NOT CAUGHT in {options.states} states")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=60000, help="states to look for each bug in")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="patches whose name contains this")
    parser.add_argument("--keep", action="store_true", help="keep the copy of the tree")
    options = parser.parse_args()
    patches = sorted(path for path in HERE.glob("*.patch") if options.only in path.name)
    if not patches:
        sys.exit("no patch to try")
    tree = pathlib.Path(tempfile.mkdtemp(prefix="trilog-mutants-"))
    try:
        copy_tree(tree)
        configured = run(["cmake", "--preset", "release"], tree)
        if configured.returncode != 0:
            sys.exit(configured.stdout + configured.stderr)
        failure = build(tree)
        if failure is not None:
            sys.exit(failure)
        code, _, words = crash_test(tree, max(2000, options.states // 10), options.seed)
        if code != 0:
            sys.exit("the tree itself fails: " + words)
        print(f"{'bug':<40} {'states':>7}  {'seconds':>7}  caught by", flush=True)
        survivors = 0
        for patch in patches:
            began = time.monotonic()
            caught, states, words = try_mutant(patch, tree, options)
            survivors += not caught
            print(f"{patch.stem:<40} {states if states is not None else '-':>7}  {time.monotonic() - began:>7.1f}  "
                  f"{words[:90]}", flush=True)
        print(f"{len(patches) - survivors} of {len(patches)} deliberate bugs caught")
    finally:
        if options.keep:
            print(f"the copy is {tree}")
        else:
            shutil.rmtree(tree, ignore_errors=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
