#!/usr/bin/env bash
# ci.sh [SIMULATOR]: what a change has to survive, with every fault: seeds 1 to 150, and 50 more that the commit id draws,
# so that each commit looks somewhere else and can be looked at again; and one seed twice in two processes with the same
# hash. What must happen sometimes has to happen in the batch.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
simulator=${1:-build/release/simulator}
commit=$(git rev-parse HEAD 2> /dev/null || echo none)
first=$((16#$(echo "$commit" | sha256sum | cut -c1-7) % 1000000 + 151))
echo "seeds 1 to 150, and of commit $commit seeds $first to $((first + 49))"
tests/simulator/same_seed.sh "$simulator" 7
"$simulator" --seeds 1..150 --jobs "$(nproc)" --require-counters
"$simulator" --seeds "$first..$((first + 49))" --jobs "$(nproc)"
