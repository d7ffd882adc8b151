#!/usr/bin/env bash
# Lets every call that a node makes on its disk fail once, with an I/O error and for lack of room: over a first start and its work and a start
# after a crash, with a small node of the tests' own, and over the program itself. The test command does the same with a sample of the
# program's calls. Then the tests with full disks and disks that hang.
#
#   Deploy/disk-faults.sh          once; some ten minutes
#   Deploy/disk-faults.sh 5        five times
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh

rounds=${1:-1}
[[ "$rounds" =~ ^[0-9]+$ ]] && [ "$rounds" -gt 0 ] || die "usage: Deploy/disk-faults.sh [ROUNDS]"
need_swift
need_packages liblmdb-dev
build_release
swift build --build-tests
for _ in $(seq "$rounds"); do
    KONTIKI_FAULT_PROGRAM_STRIDE=1 KONTIKI_BINARY="$PWD/.build/release/kontiki" \
        swift test --skip-build --filter 'EndToEndTests.(DiskFaults|FullDisks|HangingDisks)'
done
