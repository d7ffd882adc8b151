#!/usr/bin/env bash
# Shows how long the Raft loop is held by the largest commands that a node takes: in a three-node cluster on this machine each is sent some times,
# and the nodes' own metric (kontiki_raft_loop_hold_seconds) says what the longest piece of work on the loop was meanwhile.
#
#   Deploy/loop-hold.sh                 prints a line for each command; ends with 1 when the loop of any node was held for more than 20 ms
#   KEYS=2000000 Deploy/loop-hold.sh    how many keys the deleted prefixes have; 500,000 unless told
#   VALUE=16m Deploy/loop-hold.sh       the largest value; 32m unless told
#
# The time is that of the clock: on a machine that has other things to do, it holds what they took. Needs Python 3 and .build/release/kontiki
# (Deploy/run.sh builds it). Everything else is made in a temporary folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh
need_program

work=$(mktemp -d)
trap 'stop_processes; rm -rf "$work"' EXIT
http=${HTTP_PORT:-18021} raft=${RAFT_PORT:-19021} value=${VALUE:-32m}
start_node 1 "$http" "$raft" --bootstrap --max-value-bytes "$value"
start_node 2 $((http + 1)) $((raft + 1)) --join "localhost:$raft" --max-value-bytes "$value"
start_node 3 $((http + 2)) $((raft + 2)) --join "localhost:$raft" --max-value-bytes "$value"
python3 Deploy/loop-hold.py "$program" "$http" "${KEYS:-500000}" "$value" "$work"
