# What the scripts here share; sourced, from the repository's root.

# Ends with a message.
die() {
    echo "$*" >&2
    exit 1
}

# Installs Debian packages that are missing: as root, or with sudo where it asks for no password.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "Missing: ${missing[*]}. There is no apt-get here; install them by this system's own means."
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        else
            die "Missing: ${missing[*]}. Install them first:  sudo apt-get install ${missing[*]}"
        fi
    fi
    echo "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -q >/dev/null || echo "apt-get update failed; trying with the lists as they are" >&2
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt-get could not install ${missing[*]}."
}

need_swift() {
    command -v swift >/dev/null || die "Swift is not on the PATH. Kontiki needs Swift 6.2 or later: https://www.swift.org/install"
}

# Builds .build/release/kontiki. The Swift runtime is linked in, so that the binary runs where no Swift is installed.
build_release() {
    swift build -c release --product kontiki --static-swift-stdlib "$@"
}

# Sets $program to the release binary.
need_program() {
    program=${KONTIKI_BINARY:-$PWD/.build/release/kontiki}
    [ -x "$program" ] || die "There is no $program: build it with Deploy/run.sh, or name it in KONTIKI_BINARY."
}

need_h2load() {
    command -v h2load >/dev/null || die "h2load is missing: apt-get install nghttp2-client"
}

# start_node NUMBER HTTP-PORT RAFT-PORT ARGS…: a node under $work/nodeNUMBER, run by the words in $under where there are some. Returns when it is
# ready. Its process is $node then; all that were started are in $processes.
processes=() under=()
start_node() {
    "${under[@]}" "$program" serve --id "node$1" --addr "localhost:$3" --http "localhost:$2" --data "$work/node$1" "${@:4}" \
        >"$work/node$1.log" 2>&1 &
    node=$!
    processes+=("$node")
    until curl -sf "http://localhost:$2/readyz" >/dev/null; do
        kill -0 "$node" 2>/dev/null || die "a node ended: $(tail -3 "$work/node$1.log")"
        sleep 0.02
    done
}

# Ends what is in $processes.
stop_processes() {
    local process
    for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
    for process in "${processes[@]}"; do wait "$process" 2>/dev/null || true; done
    processes=()
}
