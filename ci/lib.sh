# shellcheck shell=bash
# What the scripts of this folder share. Source it first: it enters the project's root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Each kind of build below keeps a folder of its own here: other flags or another target in one
# shared folder would rebuild everything (for a cross target: the standard library) on every change.
# shellcheck disable=SC2034 # used by the scripts
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# need FILE-OR-COMMAND PACKAGE...: makes sure that the first is there, from Debian's PACKAGEs.
need() {
    local wanted=$1
    shift
    if [[ ! -e $wanted ]] && ! command -v "$wanted" >/dev/null; then
        apt_install "$@" || die "needs $wanted: install the Debian package(s) $*"
    fi
    [[ -e $wanted ]] || command -v "$wanted" >/dev/null || die "$wanted is not in the package(s) $*"
}

apt_install() {
    local as_root=()
    if [[ $EUID -ne 0 ]]; then as_root=(sudo -n); fi
    command -v apt-get >/dev/null || return 1
    "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

# need_component COMMAND COMPONENT: makes sure that `cargo COMMAND` works.
need_component() {
    cargo "$1" --version >/dev/null 2>&1 || rustup component add "$2" || die "needs cargo $1"
}

# build_std: from here on cargo uses a compiler that has its standard library's source, so that
# `-Zbuild-std` makes std for targets whose std is not installed. Debian's rustc-web is one, and
# comes with the distribution; RUSTC_BOOTSTRAP lets a release build take -Z options.
build_std() {
    need /usr/lib/rustlib/src/rust/library/std rustc-web rust-web-src libstd-rust-web-dev
    export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1
}
