#!/usr/bin/env bash
# same_seed.sh SIMULATOR SEED…: each seed runs in two processes; what they print must be the same.
set -euo pipefail
simulator=$1
shift
for seed in "$@"; do
  first=$("$simulator" --seed "$seed")
  second=$("$simulator" --seed "$seed")
  echo "$first"
  [ "$first" = "$second" ] || { echo "another process: $second" >&2; exit 1; }
done
