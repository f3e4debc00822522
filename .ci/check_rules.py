#!/usr/bin/env python3
"""Refuses a rule id (S3, R17, …) in a comment that docs/rules.md does not explain, and a limit of BrokerOptions that
docs/cli.md does not list."""
import os
import re
import subprocess
import sys

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
ID = re.compile(r"\b([SRCQGAFX][1-9][0-9]?)\b")


def unlisted_limits():
    limits = open("broker/options.h", encoding="utf-8").read().partition("// --- limits")[2].partition("\n\n")[0]
    names = re.findall(r"^  \w+ (\w+) = ", limits, re.M)
    listed = open("docs/cli.md", encoding="utf-8").read()
    wrong = [f"broker/options.h: docs/cli.md does not list {name}" for name in names if f"`{name}`" not in listed]
    return wrong if names else ["broker/options.h: no limits found"]


def main():
    os.chdir(subprocess.check_output(["git", "rev-parse", "--show-toplevel"], text=True).strip())
    known = set()
    for line in open("docs/rules.md", encoding="utf-8"):
        if line.startswith("| "):
            ids = line.split("|")[1]
            known.update(re.findall(r"\b[SRCQGAFX][0-9]{1,2}\b", ids))
            for letter, first, last in re.findall(r"\b([A-Z])([0-9]+)–[A-Z]([0-9]+)", ids):
                known.update(f"{letter}{n}" for n in range(int(first), int(last)))
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.h", "*.cc"]
    files = [f for f in subprocess.check_output(listed, text=True).split("\n") if f and os.path.exists(f)]
    wrong, quoted = [], set()
    for path in files:
        text = open(path, encoding="utf-8").read()
        for comment in COMMENT.finditer(text):
            for match in ID.finditer(comment[0]):
                quoted.add(match[1])
                if match[1] not in known:
                    line = text.count("\n", 0, comment.start() + match.start()) + 1
                    wrong.append(f"{path}:{line}: {match[1]} is not explained in docs/rules.md")
    limits = unlisted_limits()
    print("\n".join(limits + wrong + [f"rules: {len(known)} explained, {len(quoted)} quoted, {len(wrong)} unknown"]))
    return 1 if limits or wrong or not known else 0


if __name__ == "__main__":
    sys.exit(main())
