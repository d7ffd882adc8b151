#!/usr/bin/env bash
# How much of the core and of the driver the tests reach: lines by file, and each line of the core that none reaches.
#
#   Deploy/coverage.sh              rule tests, scenarios and simulation
#   Deploy/coverage.sh RaftTests    these test targets only
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh
need_swift

export KONTIKI_TEST_TARGETS="${*:-RaftTests ScenarioTests SimulationTests}"
scratch=.build-coverage
tools=$(dirname "$(readlink -f "$(command -v swift)")")
[ -x "$tools/llvm-cov" ] || tools=$(dirname "$(command -v llvm-cov || die "llvm-cov, which comes with Swift, is not found.")")

swift build --build-tests --enable-code-coverage --scratch-path "$scratch" >&2
binary=$(echo "$scratch"/debug/*.xctest)
profiles=$(mktemp -d)
trap 'rm -rf "$profiles"' EXIT
LLVM_PROFILE_FILE="$profiles/%p.profraw" "$binary" --testing-library swift-testing >"$profiles/log" 2>&1 ||
    { tail -20 "$profiles/log" >&2; die "The tests fail; what they reach says nothing."; }
"$tools/llvm-profdata" merge -sparse "$profiles"/*.profraw -o "$profiles/all.profdata"

show() { "$tools/llvm-cov" "$1" "$binary" -instr-profile="$profiles/all.profdata" "${@:2}"; }

show report -show-region-summary=false -show-branch-summary=false "$PWD/Sources/Raft" "$PWD/Sources/RaftDriver" 2>/dev/null |
    awk '/\.swift/ { sub(/.*\//, "", $1); printf "%-28s %5d lines, %4d not reached, %7s\n", $1, $5, $6, $7 }
         /^TOTAL/ { printf "%-28s %5d lines, %4d not reached, %7s\n", "together", $5, $6, $7 }'
echo
echo "lines of the core that no test reaches:"
show show "$PWD/Sources/Raft" 2>/dev/null |
    awk -F'|' '/^\/.*\.swift:$/ { file = $0; sub(/.*\//, "", file); sub(/:$/, "", file) }
               $2 ~ /^ *0$/ { line = $0; sub(/^[^|]*\|[^|]*\|/, "", line); gsub(/ /, "", $1); print file ":" $1 ":" line }'
