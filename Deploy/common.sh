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
