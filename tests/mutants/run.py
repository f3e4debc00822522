#!/usr/bin/env python3
"""Shows that the tests can fail: applies each patch below this folder, a deliberate bug, to a copy of the tree, builds
there what is to find it, and runs that until it does. The folder names the test: crash (crash_test), cluster (the
simulator, seeds from 1 on), quorum (tests and random worlds of Raft alone), exploration (simulator --explore). Exits 1
if a bug is not caught, or a patch no longer applies or builds.

  tests/mutants/run.py [--harness crash|cluster|quorum|exploration] [--only NAME] [--seeds N] [--states N] [--tree DIR]
  tests/mutants/run.py --check
"""
import argparse
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SECONDS_PER_RUN = 3600
WORDS_MAX = 110
SOUND = "simulator.sound"  # built without any bug


def copy_tree(target):
    """Tracked and new files, but not what .gitignore names; everything except build and .git outside a repository.
    What is there already and equal keeps its time, so that nothing is built again for it."""
    listing = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                             capture_output=True)
    if listing.returncode != 0:
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(".git", "build"), dirs_exist_ok=True)
        return
    for name in filter(None, listing.stdout.decode().split("\0")):
        source, copy = ROOT / name, target / name
        if not source.is_file() or copy.is_file() and copy.read_bytes() == source.read_bytes():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)


def run(command, tree, **options):
    # So that a compiler cache recognises what it has compiled under another folder.
    environment = dict(os.environ, CCACHE_BASEDIR=str(tree), CCACHE_NOHASHDIR="1")
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, errors="replace",
                          **options)


def apply(patch, tree, *flags):
    return run(["git", "apply", "--whitespace=nowarn", *flags, str(patch)], tree).returncode == 0


class Harness:
    """find() answers (exit code, how many states or seeds it took, what it said): 1 is caught, 0 is not."""

    def build(self, tree):
        result = run(["cmake", "--build", "build/release", "--target", self.target], tree)
        return None if result.returncode == 0 else (result.stdout + result.stderr)[-3000:]


class Crash(Harness):
    target, unit = "crash_test", "states"

    def __init__(self, options):
        self.most = options.states

    def find(self, tree, most):
        result = run(["build/release/crash_test", f"--states={most}", "--seed=1"], tree, timeout=SECONDS_PER_RUN)
        said = result.stderr.strip() or result.stdout.strip()
        found = re.search(r"VIOLATION in state (\d+): (.*)", said)
        if found:
            return result.returncode, int(found.group(1)), found.group(2)
        return result.returncode, None, said.split("\n")[-1]

    def sound(self, tree):
        return self.find(tree, max(2000, self.most // 10))


class Cluster(Harness):
    target, unit = "simulator", "seeds"

    def __init__(self, options):
        self.most = options.seeds
        self.flags = [flag for fault in options.without for flag in ("--without", fault)]

    def find(self, tree, most):
        first = 1
        while True:
            batch = run(["build/release/simulator", "--seeds", f"{first}..{most}", "--until-failure", "--jobs",
                         str(os.cpu_count() or 2), *self.flags], tree, timeout=SECONDS_PER_RUN)
            failed = sorted(int(seed) for seed in re.findall(r"^seed (\d+) .*FAILED", batch.stdout, re.MULTILINE))
            if not failed:
                return batch.returncode, None, batch.stdout.strip().split("\n")[-1]
            for seed in failed:
                # Seeds run side by side; the first of them tells it once more, alone.
                alone = self.alone(tree, "simulator", seed)
                if self.is_of_the_bug(tree, seed):
                    said = re.search(r"^VIOLATION (.*)|^\S+:\d+: (check failed: .*)", alone.stderr, re.MULTILINE)
                    return 1, seed, next(filter(None, said.groups())) if said else "it did not end well"
            if failed[-1] >= most:
                return 0, None, f"seeds {first} to {most}"
            first = failed[-1] + 1

    def alone(self, tree, program, seed):
        return run([f"build/release/{program}", "--seed", str(seed), *self.flags], tree, timeout=SECONDS_PER_RUN)

    def is_of_the_bug(self, tree, seed):
        """What the tree without the bug fails as well says nothing about the bug."""
        sound = tree / "build/release" / SOUND
        return not sound.exists() or self.alone(tree, SOUND, seed).returncode == 0

    def sound(self, tree):
        (tree / "build/release" / SOUND).unlink(missing_ok=True)
        verdict = self.find(tree, min(30, self.most))
        shutil.copy(tree / "build/release/simulator", tree / "build/release" / SOUND)
        return verdict


class Program(Harness):
    """Something that tries all it has, or until something is wrong."""
    most = 0

    def __init__(self, options):
        pass

    def find(self, tree, _):
        result = run([f"build/release/{self.target}", *self.arguments], tree, timeout=SECONDS_PER_RUN)
        if result.returncode == 0:
            return 0, None, "nothing found"
        count = re.search(self.count, result.stdout)
        said = re.search(self.words, result.stdout + result.stderr, re.MULTILINE)
        return 1, int(count.group(1)) if count else None, next(filter(None, said.groups())) if said else "it failed"

    def sound(self, tree):
        return self.find(tree, 0)


class Quorum(Program):
    target, unit, arguments = "quorum_test", "worlds", []
    count, words = r"seed (\d+)", r"^\[  FAILED  \] (\S+)|(check failed: .*)"


class Exploration(Program):
    target, unit, arguments = "simulator", "states", ["--explore"]
    count, words = r"(\d+) states.*VIOLATION", r"VIOLATION\n(.*)"


HARNESSES = {"crash": Crash, "cluster": Cluster, "quorum": Quorum, "exploration": Exploration}


def try_mutant(patch, tree, harness):
    """(ok, how many, words) of one patch; leaves the tree as it was."""
    if not apply(patch, tree):
        return False, None, "DOES NOT APPLY"
    try:
        failure = harness.build(tree)
        if failure is not None:
            sys.stderr.write(failure)
            return False, None, "DOES NOT BUILD"
        try:
            code, count, words = harness.find(tree, harness.most)
        except subprocess.TimeoutExpired:
            return True, None, "did not end"
    finally:
        if not apply(patch, tree, "--reverse"):
            sys.exit(f"{patch.name}: cannot be taken back")
    return (True, count, words) if code == 1 else (False, None, f"NOT CAUGHT: {words}")


def try_folder(name, harness, patches, tree):
    """How many of them are not caught."""
    failure = harness.build(tree)
    if failure is not None:
        sys.exit(failure)
    code, _, words = harness.sound(tree)
    if code != 0:
        sys.exit(f"{name}: the tree itself fails: {words}")
    print(f"{name + ': bug':<45} {harness.unit:>7}  {'seconds':>7}  caught by", flush=True)
    survivors, counts = 0, []
    for patch in patches:
        began = time.monotonic()
        caught, count, words = try_mutant(patch, tree, harness)
        survivors += not caught
        counts += [count] if count is not None else []
        print(f"{patch.stem:<45} {count if count is not None else '-':>7}  {time.monotonic() - began:>7.1f}  "
              f"{words[:WORDS_MAX]}", flush=True)
    median = f", median {statistics.median(counts):g} {harness.unit}" if counts else ""
    print(f"{len(patches) - survivors} of {len(patches)} deliberate bugs caught{median}\n", flush=True)
    return survivors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", choices=HARNESSES, help="only the patches of this folder")
    parser.add_argument("--only", default="", help="patches whose name contains this")
    parser.add_argument("--seeds", type=int, default=2000, help="seeds of the simulator to look for each bug in")
    parser.add_argument("--states", type=int, default=60000, help="states of the crash test, likewise")
    parser.add_argument("--without", action="append", default=[], help="a fault the simulator leaves out")
    parser.add_argument("--check", action="store_true", help="only whether every patch still applies to the tree")
    parser.add_argument("--tree", type=pathlib.Path, help="the copy to work in; it stays, and is brought up to date")
    options = parser.parse_args()
    chosen = {name: sorted(path for path in (HERE / name).glob("*.patch") if options.only in path.name)
              for name in HARNESSES if options.harness in (None, name)}
    if not any(chosen.values()):
        sys.exit("no patch to try")
    if options.check:
        stale = [path for paths in chosen.values() for path in paths if not apply(path, ROOT, "--check")]
        for path in stale:
            print(f"does not apply any more: {path.relative_to(ROOT)}")
        return 1 if stale else 0
    tree = options.tree.absolute() if options.tree else pathlib.Path(tempfile.mkdtemp(prefix="trilog-mutants-"))
    survivors = 0
    try:
        copy_tree(tree)
        configured = run(["cmake", "--preset", "release"], tree)
        if configured.returncode != 0:
            sys.exit(configured.stdout + configured.stderr)
        for name, patches in chosen.items():
            if patches:
                survivors += try_folder(name, HARNESSES[name](options), patches, tree)
    finally:
        if not options.tree:
            shutil.rmtree(tree, ignore_errors=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
