#!/usr/bin/env bash
# Runs the yardsticks and the small benchmarks one after another: bench/run.sh [BUILD=build/release] [DIRECTORY=BUILD]
# DIRECTORY says on which disk the bytes go. README.md beside this file tells how to read the figures.
set -euo pipefail
build=$(readlink -f "${1:-build/release}")
directory=$(readlink -f "${2:-$build}")
cd "$(dirname "$(readlink -f "$0")")/.."

title() { printf '\n%s\n' "$*"; }

title "machine: $(nproc) processors, load $(cut -d' ' -f1-3 /proc/loadavg), $(df --output=fstype "$directory" | tail -n 1) in $directory"
title "limit: copy over TCP, checksum, write (1 MiB batches, then 16 KiB)"
"$build/copy_limit" --directory "$directory"
"$build/copy_limit" --directory "$directory" --batch-kb 16 --window 64 --total-mb 256
title "limit: the same, acknowledged after a group-committed sync"
"$build/copy_limit" --directory "$directory" --sync
"$build/copy_limit" --directory "$directory" --sync --batch-kb 16 --window 64 --total-mb 256
title "limit: bare gRPC"
"$build/grpc_limit" --directory "$directory"
"$build/grpc_limit" --directory "$directory" --sync --total-mb 512
title "the broker beside its limits: figure, limit, share of it (lowest to highest), cost"
bench/compare.py "$build" "$directory"
title "limit: three copies over TCP, and three of them synced before the answer"
"$build/copy_limit" --directory "$directory" --replicas 3 --batch-kb 64 --window 64 --record-bytes 1024 --total-mb 512
"$build/copy_limit" --directory "$directory" --replicas 3 --batch-kb 64 --window 64 --record-bytes 1024 --total-mb 512 --sync
title "three brokers beside the limits of three copies: figure, limit, share of it (lowest to highest), cost"
timeout 900 bench/replication.py "$build" "$directory" --rounds 3
title "the node: from nothing to the first record, memory, idle processor, restarts"
"$build/start_bench" --program "$build/trilog" --directory "$directory" --runs 20
bench/node.py "$build" "$directory"
title "storage"
(cd "$directory" && "$build/storage_bench" --benchmark_min_time=0.2)
