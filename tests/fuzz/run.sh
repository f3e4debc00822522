#!/usr/bin/env bash
# Builds the fuzzers and runs each over its corpus: tests/fuzz/run.sh [SECONDS=10] [NAME…]
# Fails on a crash, a hang, a leak, too much memory, an empty corpus, or a corpus that no fuzzer reads. Inputs found on the
# way stay in build/fuzz/found/NAME for the next run; an input that failed is named and kept in build/fuzz/failed.
# FUZZ_BUILD=DIR uses another build folder.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
seconds=${1:-10}
[ $# -gt 0 ] && shift
build=${FUZZ_BUILD:-build/fuzz}
corpus=tests/fuzz/corpus

cmake --preset fuzz -B "$build" --log-level=WARNING >/dev/null
cmake --build "$build" --target fuzzers
mkdir -p "$build/failed"

failures=0
fail() {
  echo "fuzz: $*" >&2
  failures=$((failures + 1))
}

for folder in "$corpus"/*/; do
  grep -q "^$(basename "$folder") " "$build/fuzzers.txt" || fail "$folder belongs to no fuzzer"
done

while read -r name max_length memory_mb; do
  [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
  if [ -z "$(ls -A "$corpus/$name" 2>/dev/null)" ]; then
    fail "$corpus/$name has no seeds"
    continue
  fi
  found="$build/found/$name"
  mkdir -p "$found"
  echo "fuzz: $name for $seconds s"
  if ! "$build/$name" -max_total_time="$seconds" -max_len="$max_length" -rss_limit_mb="$memory_mb" \
    -malloc_limit_mb=64 -timeout=5 -print_final_stats=1 -artifact_prefix="$build/failed/$name-" \
    "$found" "$corpus/$name" >"$build/$name.log" 2>&1; then
    tail -n 60 "$build/$name.log" >&2
    fail "$name failed"
  fi
  grep -hE "number_of_executed_units|peak_rss_mb" "$build/$name.log" || true
done <"$build/fuzzers.txt"

[ "$failures" -eq 0 ] || exit 1
echo "fuzz: no failures"
