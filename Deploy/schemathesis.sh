#!/usr/bin/env bash
# Has schemathesis (from PyPI) read /openapi.json of a running node and ask all that it allows, and much that it does not: no answer may be
# a 5xx, and none may have a status, a type or a form that the document does not name.
#
#   Deploy/schemathesis.sh                    100 examples for each operation
#   EXAMPLES=1000 Deploy/schemathesis.sh      more
#   SEED=7 Deploy/schemathesis.sh             the same again
#
# Runs a single node in a temporary folder and ends it afterwards. Left out is what would take the node itself apart: changes of the
# members and transfers of leadership. Needs python3 with venv, PyPI, curl and .build/release/kontiki (Deploy/run.sh builds it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh
need_program
work=$(mktemp -d)
trap 'stop_processes; rm -rf "$work"' EXIT

runner=${SCHEMATHESIS:-}
if [ -z "$runner" ]; then
    python3 -m venv "$work/venv" || die "python3 has no venv: apt-get install python3-venv"
    "$work/venv/bin/pip" install -q schemathesis || die "schemathesis cannot be installed from PyPI; name an installed one in SCHEMATHESIS."
    runner=$work/venv/bin/schemathesis
fi

read -r http raft < <(python3 -c '
import socket
sockets = [socket.socket() for _ in range(2)]
for s in sockets: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))')
start_node 1 "$http" "$raft" --bootstrap --request-timeout 2s

# What is rightly answered late, never or with a 504 is bounded: a stream of changes has no end, a long poll is as long as one asks for, a time of
# 1ms is too short, and a read that waits for a revision which nobody has written waits for its whole time (strong ones know better and answer
# 400). Malformed values are left as they are.
cat >"$work/hooks.py" <<'EOF'
import re

import schemathesis

DURATION = re.compile(r"[0-9]{1,11}(ms|s|m|h)\Z")


def bound(values, name, value, is_meant=lambda text: DURATION.match(text)):
    if name in values and is_meant(str(values[name])):
        values[name] = value


@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query
    if query:
        query.pop("watch", None)
        bound(query, "wait", "50ms")
        bound(query, "timeout", "3s")
        bound(query, "min_rev", 0, lambda text: text.isascii() and text.isdigit())
        bound(query, "max_stale", "1s")
        if ("rev" in query or "cursor" in query) and query.get("consistency") in ("stale", "bounded"):
            query["consistency"] = "strong"
            query.pop("max_stale", None)
    if isinstance(case.body, dict) and isinstance(case.body.get("wait"), str):
        bound(case.body, "wait", "50ms")
EOF

# The phases before the stateful one, which follows links that the document does not have.
status=0
(cd "$work" && SCHEMATHESIS_HOOKS=hooks PYTHONPATH=$work "$runner" run "http://127.0.0.1:$http/openapi.json" \
    --phases examples,coverage,fuzzing --request-timeout 20 \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance \
    --exclude-path-regex '^/(members/.+|leader/transfer|restore)' --exclude-operation-id addMember \
    --max-examples "${EXAMPLES:-100}" ${SEED:+--seed "$SEED"} --suppress-health-check all --continue-on-failure --warnings off \
    --generation-database none "$@") || status=$?
kill -0 "$node" 2>/dev/null || die "the node ended: $(tail -5 "$work/node1.log")"
curl -sf "http://127.0.0.1:$http/livez" >/dev/null || die "the node does not answer any more: $(tail -5 "$work/node1.log")"
if grep -E 'Fatal|critical' "$work/node1.log" >&2; then die "The node's log tells of a fault, see above."; fi
exit "$status"
