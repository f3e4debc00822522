#!/usr/bin/env python3
"""Refuses the words of .ci/words in the rooms that must be deterministic. Comments and strings do not count."""
import os
import re
import subprocess
import sys

# What is not code: comments and literals. An #include keeps its name, whatever the quotes.
NOT_CODE = re.compile(
    r'(?P<include>^\s*#\s*include[^\n]*)|//[^\n]*|/\*.*?\*/|R"(?P<d>[^(\s]*)\(.*?\)(?P=d)"|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.S | re.M)


def code_of(text):
    """The text with comments and literals blanked, line by line at the same place."""
    return NOT_CODE.sub(lambda m: m[0] if m["include"] else re.sub(r"[^\n]", " ", m[0]), text)


def main():
    os.chdir(subprocess.check_output(["git", "rev-parse", "--show-toplevel"], text=True).strip())
    folders, words = [], []
    for number, line in enumerate(open(".ci/words", encoding="utf-8"), 1):
        line = line.rstrip("\n")
        if line.startswith("in: "):
            folders += line[4:].split()
        elif line and (not line.startswith("#") or "\t" in line):
            pattern, tab, instead = line.partition("\t")
            if not tab:
                sys.exit(f".ci/words:{number}: no tab between pattern and advice")
            words.append((re.compile(pattern, re.M), instead))

    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders]
    files = [f for f in subprocess.check_output(listed, text=True).split("\n")
             if f.endswith((".h", ".cc")) and os.path.exists(f)]
    wrong = []
    for path in files:
        code = code_of(open(path, encoding="utf-8").read())
        for pattern, instead in words:
            for match in pattern.finditer(code):
                line = code.count("\n", 0, match.start()) + 1
                wrong.append(f"{path}:{line}: '{match[0].strip()}' is not for the core; use {instead}")
    wrong += [f"{folder}: no such folder" for folder in folders if not os.path.isdir(folder)]
    print("\n".join(wrong + [f"words: {len(words)} patterns, {len(files)} files, {len(wrong)} violations"]))
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main())
