#!/usr/bin/env bash
# Shows what the end of many leases at once does to writes: in a three-node cluster on this machine, 100,000 keys with a time to live end
# within a second or two, while others are put.
#
#   Deploy/leases.sh                  prints how long puts take before and while the keys end, and when the last is gone at each node
#   LEASES=200000 Deploy/leases.sh    more keys
#   CLIENTS=64 Deploy/leases.sh       more connections that put meanwhile; 16 unless told
#   LOADING=120 Deploy/leases.sh      the keys end so many seconds after the first is put; 60 unless told, more for a slow machine
#
# Needs h2load (nghttp2-client) and .build/release/kontiki (Deploy/run.sh builds it). Everything else is made in a temporary folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. Deploy/common.sh
need_program
need_h2load

leases=${LEASES:-100000} clients=${CLIENTS:-16} loading=${LOADING:-60} work=$(mktemp -d)
trap 'stop_processes; rm -rf "$work"' EXIT
head -c 192 /dev/urandom | base64 -w0 >"$work/value" # 256 bytes
now() { echo $(($(date +%s%N) / 1000000)); }

start_node 1 18011 19011 --bootstrap
start_node 2 18012 19012 --join localhost:19011
start_node 3 18013 19013 --join localhost:19011
url=http://127.0.0.1:18011
leases_at() { curl -s "http://127.0.0.1:1801$1/metrics" | awk '/^kontiki_leases / {print $2}'; }

# In transactions of 100 puts, each with the time that is left by then, so that all end together.
begin=$(now)
end=$((begin + loading * 1000))
leases=$((leases / 100 * 100))
put_hundred() {
    seq -f %.0f "$1" "$(($1 + 99))" | awk -v ttl="$((end - $(date +%s%N) / 1000000))" '
        BEGIN {printf "{\"compare\":[],\"success\":["}
        {printf "%s{\"put\":{\"key\":\"lease/%s\",\"value\":\"v\",\"ttl\":\"%dms\"}}", (NR > 1 ? "," : ""), $1, ttl}
        END {print "],\"failure\":[]}"}' | curl -sf -o /dev/null -X POST --data-binary @- "$url/txn"
}
export -f put_hundred
export end url
seq -f %.0f 1 100 "$leases" | xargs -P 4 -I{} bash -c 'put_hundred {}' || die "The keys could not be put."
[ "$(now)" -lt $((end - 7000)) ] || die "That took $((($(now) - begin) / 1000)) s: give LOADING more seconds."
there=$(leases_at 1)
[ "$there" = "$leases" ] || die "Only $there of $leases keys have a lease."
echo "$leases keys, each with a lease of its own, put in $((($(now) - begin) / 1000)) s"

# Puts go on from before the end to after it; each is counted by when it began.
until [ "$(now)" -ge $((end - 7000)) ]; do sleep 0.1; done
for n in 1 2 3; do
    (
        until [ "$(leases_at "$n")" != "$leases" ]; do sleep 0.05; done
        first=$(now)
        until [ "$(leases_at "$n")" = 0 ]; do sleep 0.05; done
        echo "$first $(now)" >"$work/gone$n"
    ) &
    processes+=("$!")
done
: >"$work/times"
until [ -s "$work/gone1" ] && [ -s "$work/gone2" ] && [ -s "$work/gone3" ]; do
    [ "$(now)" -lt $((end + 120000)) ] || die "After two minutes there are still leases: $(leases_at 1) $(leases_at 2) $(leases_at 3)"
    h2load --h1 -t1 -c "$clients" -n 4000 --log-file="$work/part" -H ':method: PUT' -d "$work/value" "$url/kv/bench/key" >/dev/null 2>&1
    cat "$work/part" >>"$work/times"
    rm -f "$work/part"
done

# latencies FROM TO: of the puts that began between these times, in milliseconds
latencies() {
    awk -v from="$1" -v to="$2" '$1 / 1000 >= from && $1 / 1000 < to {print $3, $2}' "$work/times" | sort -n |
        awk -v seconds="$((($2 - $1)))" '{v[NR] = $1; if ($2 < 200 || $2 > 299) bad++}
            END {if (NR) printf "p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, longest %.2f ms (%d puts, %d a second, %d refused)\n",
                v[int((NR + 1) / 2)] / 1000, v[int(NR * 0.99 + 1 - 1e-9)] / 1000, v[int(NR * 0.999 + 1 - 1e-9)] / 1000, v[NR] / 1000,
                NR, NR * 1000 / seconds, bad}'
}
first=$(sort -n "$work"/gone? | awk 'NR == 1 {print $1}')
last=$(awk '{print $2}' "$work"/gone? | sort -n | tail -1)
for n in 1 2 3; do
    rest=$(curl -s "http://127.0.0.1:1801$n/kv?prefix=lease/&limit=1&keys_only=true&consistency=stale" | grep -c 'lease/' || true)
    [ "$rest" = 0 ] || die "node$n still has keys of ended leases."
    awk -v n="$n" -v end="$end" '{printf "node%d: the first gone after %.1f s, the last after %.1f s\n", n, ($1 - end) / 1000, ($2 - end) / 1000}' \
        "$work/gone$n"
done
echo "puts of $clients connections, before:     $(latencies $((end - 6000)) $((end - 1000)))"
echo "puts of $clients connections, meanwhile:  $(latencies "$first" "$last")"
