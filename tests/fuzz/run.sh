#!/usr/bin/env bash
# Builds the fuzzers and runs each over its corpus, as many at a time as there are cores: tests/fuzz/run.sh [SECONDS=10]
# [NAME…]
# Fails on a crash, a hang, a leak, too much memory, an empty corpus, or a corpus that no fuzzer reads. An input that
# failed is named and kept in build/fuzz/failed.
# FUZZ_SEED=N chooses the row of inputs, which begins with the corpus and is the same each time: 1 unless told otherwise.
# FUZZ_SEED=0, for long runs, is another one each time, and begins with what such runs found before (build/fuzz/found).
# FUZZ_BUILD=DIR uses another build folder, FUZZ_JOBS=N runs N at a time.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
seconds=${1:-10}
seed=${FUZZ_SEED:-1}
[ $# -gt 0 ] && shift
build=${FUZZ_BUILD:-build/fuzz}
corpus=tests/fuzz/corpus

cmake --preset fuzz -B "$build" --log-level=WARNING >/dev/null
cmake --build "$build" --target fuzzers
mkdir -p "$build/failed"
# Freed memory is kept poisoned for a while; less of it, so that the limits below are those of the code.
export ASAN_OPTIONS=quarantine_size_mb=32:${ASAN_OPTIONS:-}
# At random addresses a fuzzer finds its way by other turns each time. Where that cannot be had, the row is nearly the same.
fixed=()
[ "$seed" -eq 0 ] || ! setarch -R true 2>/dev/null || fixed=(setarch -R)
timeout=20  # seconds for one input, on a machine that does other things as well

failures=0
fail() {
  echo "fuzz: $*" >&2
  failures=$((failures + 1))
}

for folder in "$corpus"/*/; do
  grep -q "^$(basename "$folder") " "$build/fuzzers.txt" || fail "$folder belongs to no fuzzer"
done

run() { # name max_length memory_mb
  local name=$1 found="$build/found/$1" reload=1
  if [ "$seed" -ne 0 ]; then
    found="$build/seeded/$1"
    reload=0
    rm -rf "$found"
  fi
  mkdir -p "$found"
  if ! "${fixed[@]}" "$build/$name" -seed="$seed" -reload="$reload" -max_total_time="$seconds" -max_len="$2" \
    -rss_limit_mb="$3" -malloc_limit_mb=64 -timeout="$timeout" -print_final_stats=1 -artifact_prefix="$build/failed/$name-" \
    "$found" "$corpus/$name" >"$build/$name.log" 2>&1; then
    tail -n 60 "$build/$name.log" >&2
    echo "fuzz: $name failed (FUZZ_SEED=$seed)" >&2
    return 1
  fi
  echo "fuzz: $name for $seconds s:" \
    "$(sed -nE 's/^stat::(number_of_executed_units|peak_rss_mb): */\1 /p' "$build/$name.log" | tr '\n' ' ')"
}

jobs_max=${FUZZ_JOBS:-$(nproc)}
running=0
take_one() {
  wait -n || failures=$((failures + 1))
  running=$((running - 1))
}
while read -r name max_length memory_mb; do
  [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
  if [ -z "$(ls -A "$corpus/$name" 2>/dev/null)" ]; then
    fail "$corpus/$name has no seeds"
    continue
  fi
  [ "$running" -lt "$jobs_max" ] || take_one
  run "$name" "$max_length" "$memory_mb" &
  running=$((running + 1))
done <"$build/fuzzers.txt"
while [ "$running" -gt 0 ]; do take_one; done

[ "$failures" -eq 0 ] || exit 1
echo "fuzz: no failures"
