#!/usr/bin/env bash
# Builds Kontiki and runs a three-node cluster on this machine: clients on ports 8001–8003, peers on 9001–9003, state under data/.
# Ctrl-C stops it; run again, it goes on with its data. Further arguments go to `kontiki dev` (see its --help).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh

need_swift
need_packages liblmdb-dev
echo "building (the first time takes some minutes)"
build_release
exec .build/release/kontiki dev --nodes 3 --data data --base-http 8001 --base-peer 9001 "$@"
