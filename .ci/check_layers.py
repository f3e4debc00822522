#!/usr/bin/env python3
"""Refuses an include that the table in .ci/layers does not allow. Reads every #include line of the tree."""
import fnmatch
import os
import re
import subprocess
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


class Room:
    def __init__(self, line, doors, may):
        self.folder, _, files = line.partition(":")
        self.files = files.split(",") if files else None
        # A room of files is called after its first one, without the ending: broker:main.
        self.name = self.folder if not files else f"{self.folder}:{self.files[0].split('.')[0]}"
        self.doors, self.may = doors.split(), may.split()

    def holds(self, path):
        folder, name = os.path.split(path)
        if self.files:
            return folder == self.folder and any(fnmatch.fnmatch(name, f) for f in self.files)
        return folder == self.folder or (self.folder == "tests" and folder.startswith("tests/"))

    def door_for(self, name, asker):
        return any(d in (name, "*", f"{name}@{asker.name}", f"{name}@{asker.folder}") for d in self.doors)


def read_table(path):
    rooms, libraries = [], []
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        kind, _, rest = line.partition(" ")
        columns = [c.strip() for c in rest.split("|")]
        if len(columns) != 3 or kind not in ("room", "library"):
            sys.exit(f"{path}:{number}: want: room|library NAME | … | …")
        if kind == "room":
            rooms.append(Room(*columns))
        else:
            libraries.append((columns[0], columns[1].split(), columns[2].split()))
    return rooms, libraries


def cycle(rooms):
    """The first cycle among the rooms' permissions, or None. Rooms that may include everything stand outside."""
    graph = {r.name: [m for m in r.may if not m.startswith("+")] for r in rooms}
    state = {}

    def visit(name, trail):
        if state.get(name) == "done":
            return None
        if name in trail:
            return trail[trail.index(name):] + [name]
        for below in graph.get(name, []):
            if below not in graph:
                return [name, f"{below} (no such room)"]
            found = visit(below, trail + [name])
            if found:
                return found
        state[name] = "done"
        return None

    return next(filter(None, (visit(name, []) for name in graph)), None)


def judge(path, room, bracket, target, rooms, libraries):
    """Why this include is not allowed, or None."""
    for name, patterns, where in libraries:
        if any(fnmatch.fnmatch(target, p) for p in patterns) and not os.path.exists(target):
            allowed = {"*", path, room.name, room.folder} & set(where)
            return None if allowed else f"{name} belongs to {', '.join(where)}"
    if bracket == "<":
        return None if "/" not in target and not target.endswith(".h") else "a library that .ci/layers does not know"
    if not os.path.exists(target):
        return "no such file; includes give the full path from the root"
    owner = next((r for r in rooms if r.holds(target)), None)
    if owner is None:
        return "that folder is in no row of .ci/layers"
    if owner is room or "++" in room.may:
        return None
    if owner.name not in room.may:
        return f"{room.name} may include {', '.join(room.may) or 'nothing'}"
    return None if owner.door_for(os.path.basename(target), room) else f"not a door of {owner.name}"


def main():
    os.chdir(subprocess.check_output(["git", "rev-parse", "--show-toplevel"], text=True).strip())
    rooms, libraries = read_table(".ci/layers")
    wrong = []
    found = cycle(rooms)
    if found:
        wrong.append(f".ci/layers: a cycle or an unknown room: {' -> '.join(found)}")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.h", "*.cc", "*.c"]
    files = [f for f in subprocess.check_output(listed, text=True).split("\n") if f and os.path.exists(f)]
    for path in files:
        room = next((r for r in rooms if r.holds(path)), None)
        if room is None:
            wrong.append(f"{path}: its folder is in no row of .ci/layers")
            continue
        text = open(path, encoding="utf-8").read()
        for match in INCLUDE.finditer(text):
            why = judge(path, room, *match.groups(), rooms, libraries)
            if why:
                wrong.append(f"{path}:{text.count(chr(10), 0, match.start(2)) + 1}: includes {match[2]}: {why}")
    print("\n".join(wrong + [f"layers: {len(files)} files, {len(rooms)} rooms, {len(wrong)} violations"]))
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main())
