#!/usr/bin/env bash
# Three nodes under churn (puts, deletes, big and small values, compaction, snapshots, restarts) for as long as you like: shows what they take
# of the machine over time, and fails where files, memory, descriptors or reader slots grow without bound.
#
#   Deploy/soak.sh          10 minutes
#   Deploy/soak.sh 240      4 hours
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh

minutes=${1:-10}
[[ "$minutes" =~ ^[0-9]+$ ]] && [ "$minutes" -gt 0 ] || die "usage: Deploy/soak.sh [MINUTES]"
need_swift
need_packages liblmdb-dev
build_release
KONTIKI_SOAK_SECONDS=$((minutes * 60)) KONTIKI_BINARY="$PWD/.build/release/kontiki" swift test --filter 'EndToEndTests.Soak'
