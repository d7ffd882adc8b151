#!/usr/bin/env bash
# Counts what an acknowledged put of 256 bytes costs the disk, at 1, 16 and 256 concurrent clients, on one node and on three.
#
#   Deploy/flushes.sh
#   DIRECTORY=/var/tmp/x Deploy/flushes.sh      the data lie there (a folder of mktemp's when unset); it must be a real disk
#
# Flushes are calls of fsync and fdatasync and writes through an O_DSYNC descriptor (LMDB's meta page); bytes are what the node's writes hand to
# the system for its files, as a library tells that the tests preload (Tests/DiskRecorder): its trace holds every written byte, and some 40 more
# for each call. (write_bytes of /proc/PID/io is no measure: it counts a whole folio of the page cache, up to 2 MiB, for each page written to it.)
# Both hold all that a node does in the time: log, state and snapshots. Needs h2load (nghttp2-client), .build/release/kontiki (Deploy/run.sh
# builds it) and 1 GB in /dev/shm for the trace.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh
need_program
need_h2load
if [ -z "${RECORDER:-}" ]; then
    need_swift
    swift build --product DiskRecorder >/dev/null
    RECORDER=$(swift build --show-bin-path)/libDiskRecorder.so
fi

work=$(mktemp -d ${DIRECTORY:+-p "$DIRECTORY"}) notes=$(mktemp -d -p /dev/shm)
trap 'stop_processes; rm -rf "$work" "$notes"' EXIT
[ "$(stat -f -c %T "$work")" != tmpfs ] || die "$work is in memory; name a folder on a disk in DIRECTORY."
head -c 192 /dev/urandom | base64 -w0 >"$work/value" # 256 bytes
seq 100000 | shuf --random-source=<(yes) | sed 's|.*|http://127.0.0.1:18001/kv/flush/&|' >"$work/keys"

flushes() { wc -l <"$notes/count"; }
log_flushes() { grep -c ' /log/' "$notes/count"; }
written() { stat -c %s "$notes/trace"; }

for nodes in 1 3; do
    rm -rf "$work"/node* "$notes"/*
    under=(env LD_PRELOAD="$RECORDER" KONTIKI_DISK_DIR="$work/node1" KONTIKI_DISK_FAULT="calls=sync nth=0"
        KONTIKI_DISK_COUNT="$notes/count" KONTIKI_DISK_RECORD="$notes/trace")
    start_node 1 18001 19001 --bootstrap
    under=()
    for n in $(seq 2 "$nodes"); do start_node "$n" "1800$n" "1900$n" --join localhost:19001; done
    printf '\n%s\n%8s %8s %8s %14s %14s %12s\n' "$([ "$nodes" = 1 ] && echo 'one node' || echo 'the leader of three nodes')" \
        clients puts puts/s flushes/put 'of the log' bytes/put
    for clients in 1 16 256; do
        puts=$((clients == 1 ? 3000 : clients == 16 ? 20000 : 100000))
        before=("$(flushes)" "$(log_flushes)" "$(written)")
        h2load --h1 -t1 -c "$clients" -n "$puts" -i "$work/keys" -H ':method: PUT' -d "$work/value" >"$work/h2load"
        sleep 1 # what was applied last may still be on its way to the disk
        after=("$(flushes)" "$(log_flushes)" "$(written)")
        acknowledged=$(awk '/^status codes:/ {print $3}' "$work/h2load")
        [ "$acknowledged" = "$puts" ] || die "not every put was acknowledged: $(grep -A1 '^requests:' "$work/h2load")"
        rate=$(awk '/^finished in/ {print int($4)}' "$work/h2load")
        awk -v c="$clients" -v n="$puts" -v r="$rate" -v f=$((after[0] - before[0])) -v l=$((after[1] - before[1])) \
            -v b=$((after[2] - before[2])) 'BEGIN {printf "%8d %8d %8d %14.4f %14.4f %12.0f\n", c, n, r, f / n, l / n, b / n}'
    done
    stop_processes
done
