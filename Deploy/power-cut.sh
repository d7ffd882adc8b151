#!/usr/bin/env bash
# Records what a real node does to its disk under each workload, makes the states that power cuts could leave, and starts the real recovery
# on each of them (Tests/PowerCut).
#
#   Deploy/power-cut.sh                                     1,000,000 different images
#   Deploy/power-cut.sh --images 50000 --seed 7             fewer, others
#   Deploy/power-cut.sh --workloads compaction,snapshot     only these
#   Deploy/power-cut.sh --guilty nosync                     must fail; also: directories, snapshots
#
# Prints how far it is, a line for each workload and one for all. It ends with 0 when nothing was lost or damaged. A failure names
# the image, keeps its directory and says how to check it once more. The images lie in /dev/shm, a few megabytes at a time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh
need_swift
need_packages liblmdb-dev

swift build -c release --product power-cut
swift build -c release --product DiskRecorder
exec .build/release/power-cut run --images 1000000 "$@"
