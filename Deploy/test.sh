#!/usr/bin/env bash
# Builds and runs every test: formatter, thread sanitizer, simulation, unit tests, and the end-to-end suite on the release binary.
#
#   KONTIKI_CRASH_ROUNDS=200 Deploy/test.sh     more rounds of crash and restart (5 when unset)
#   KONTIKI_SIMULATE_MINUTES=60 Deploy/test.sh  a longer simulation (2 minutes when unset)
#   KONTIKI_SKIP_TSAN=1 Deploy/test.sh          without the thread sanitizer's build and run
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh

need_swift
need_packages liblmdb-dev

output=$(mktemp)
trap 'rm -f "$output"' EXIT

# Runs tests; where some fail, says once more at the end which and why: among thousands of lines they are hard to find.
run_tests() {
    "$@" 2>&1 | tee "$output" && return
    echo "=== what failed"
    grep -a -E '✘|↳|error:' "$output" | tail -n 60
    return 1
}

echo "=== format"
find Package.swift Sources Tests -name '*.swift' -print0 | xargs -0 swift format lint --strict --parallel --configuration .swift-format

# What the unit tests leave out: it ran under the sanitizer.
ran=EndToEndTests
if [ -z "${KONTIKI_SKIP_TSAN:-}" ]; then
    echo "=== thread sanitizer"
    # Only what drives threads is built and run, by naming the targets (see the end of Package.swift). The sanitizer's memory layout does not
    # bear the kernel's full address randomisation.
    fixed_layout=()
    if command -v setarch >/dev/null && setarch "$(uname -m)" -R true 2>/dev/null; then fixed_layout=(setarch "$(uname -m)" -R); fi
    threads='RaftNodeTests|RaftTransportTests|GroupCommitter|WorkerThread|StoreConcurrency|KeyValueServiceTests|HTTPAPITests'
    KONTIKI_TEST_TARGETS="RaftStorageTests RaftTransportTests RaftNodeTests KeyValueTests KeyValueServiceTests HTTPAPITests" \
        TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1 suppressions=$PWD/Deploy/thread-sanitizer.txt" \
        run_tests "${fixed_layout[@]}" swift test --scratch-path .build-tsan --sanitize=thread --no-parallel \
        --filter "$threads"
    ran+="|$threads"
fi

echo "=== release binary"
build_release

echo "=== simulation"
# Other seeds on each run; a failure prints the one, and the command that plays it again.
.build/release/kontiki simulate --minutes "${KONTIKI_SIMULATE_MINUTES:-2}"

echo "=== unit tests"
swift build --build-tests
# One test at a time: many run a server or a cluster, and their time limits are the product's own.
run_tests swift test --skip-build --no-parallel --skip "$ran"

echo "=== end to end"
KONTIKI_BINARY="$PWD/.build/release/kontiki" run_tests swift test --skip-build --filter EndToEndTests
