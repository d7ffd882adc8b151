#!/usr/bin/env bash
# Damages copies of a node's data directory, one place each (single bits, some bytes, sectors and pages of zeros; every file), and starts
# a real node on each copy: a damage must be harmless, be mended, or be told of before anything wrong is answered.
#
#   Deploy/bit-rot.sh --flips 10000 --seed 1
#   Deploy/bit-rot.sh --flips 500 --without-examination    what happens where nobody looks at the pages: it must fail
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh
need_swift

export SWIFT_BACKTRACE=enable=no
swift build -c release --product bit-rot >&2
exec "$(swift build -c release --show-bin-path)/bit-rot" "$@"
