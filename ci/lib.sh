# shellcheck shell=bash
# What the scripts of this folder share. Source it first: it enters the project's root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Each kind of build below keeps a folder of its own here: other flags or another target in one
# shared folder would rebuild everything (for a cross target: the standard library) on every change.
# shellcheck disable=SC2034 # used by the scripts
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
mkdir -p "$target"

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# cannot_here MESSAGE: ends a check that this machine cannot run: successfully, unless PAGEWISE_REQUIRE_ALL is
# set. The hosted workflow sets it, so that every check runs somewhere.
# shellcheck disable=SC2317,SC2329 # used by the scripts
cannot_here() {
    if [[ -n ${PAGEWISE_REQUIRE_ALL:-} ]]; then die "cannot be checked here: $*"; fi
    printf 'NOT TESTED HERE: %s\n' "$*" >&2
    exit 0
}

# tested PLATFORM COMMAND...: runs tests, then prints the checks that they skipped, since test programs hide
# the output of passing tests. Fails on a skip that is listed neither in ci/skips/PLATFORM nor in ci/skips/any
# (for older kernels, also in linux-before-6.13).
tested() {
    local expected=ci/skips/$1 list=$target/skips.$1 status=0 line surprising=0 older=()
    [[ -e $expected ]] || die "there is no $expected"
    if ! printf '%s\n' 6.13 "$(uname -r)" | sort --version-sort --check=quiet; then
        older=(ci/skips/linux-before-6.13)
    fi
    shift
    : >"$list"
    PAGEWISE_SKIPS=$list "$@" || status=$?
    sort -u -o "$list" "$list"
    echo "NOT TESTED HERE: $(wc -l <"$list")"
    while IFS= read -r line; do
        if is_expected "$line" "$expected" ci/skips/any "${older[@]}"; then
            echo "    $line"
        else
            echo "    $line (UNEXPECTED)"
            surprising=$((surprising + 1))
        fi
    done <"$list"
    if ((status != 0)); then exit "$status"; fi
    if ((surprising > 0)); then die "$surprising of these are not in $expected"; fi
}

# modules PROGRAM NAME...: sets `selected` to the arguments of `cargo test` for these files of tests/PROGRAM. Fails
# where one is not there: as a filter, its name would select no test, and nothing would be said.
modules() {
    local program=$1 name
    shift
    selected=(--test "$program" --)
    for name; do
        [[ -e tests/$program/$name.rs ]] || die "there is no tests/$program/$name.rs"
        selected+=("$name::")
    done
}

# is_expected LINE FILE...: whether a file has the line, or one that ends with an asterisk in place of
# the rest.
is_expected() {
    local line=$1 known
    shift
    while IFS= read -r known; do
        if [[ $line == "$known" || $known == *'*' && $line == "${known%'*'}"* ]]; then return 0; fi
    done < <(cat "$@")
    return 1
}

# need FILE-OR-COMMAND PACKAGE...: makes sure that the first is there, from Debian's PACKAGEs. It must be
# something that none of their dependencies and no other package brings: a runtime package makes the
# library's folder, too, but not what programs are linked with.
need() {
    local wanted=$1
    shift
    if ! is_there "$wanted"; then
        apt_install "$@" || die "needs $wanted: install the Debian package(s) $*"
    fi
    is_there "$wanted" || die "$wanted is not in the package(s) $*"
}

is_there() { [[ -e $1 ]] || command -v "$1" >/dev/null; }

apt_install() {
    local as_root=()
    if [[ $EUID -ne 0 ]]; then as_root=(sudo -n); fi
    command -v apt-get >/dev/null || return 1
    # Of several sources, one that is out of reach may be one that is not needed.
    "${as_root[@]}" apt-get update -qq || true
    # What is installed stays: Debian's second compiler, for one, would take the place of other ones.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
        --no-install-recommends --no-remove -o DPkg::Lock::Timeout=120 "$@" >/dev/null
}

# need_component COMMAND COMPONENT: makes sure that `cargo COMMAND` works.
need_component() {
    cargo "$1" --version >/dev/null 2>&1 || rustup component add "$2" || die "needs cargo $1"
}

# std_for TARGET...: from here on cargo builds for these targets, if it gets the arguments `std_args` as
# well. Their standard libraries are those that the toolchain's own manager has; where it has none, or
# PAGEWISE_BUILD_STD is set, cargo builds them.
std_for() {
    std_args=()
    if [[ -z ${PAGEWISE_BUILD_STD:-} ]]; then
        if has_std "$@"; then return; fi
        if command -v rustup >/dev/null && timeout 300 rustup target add "$@" && has_std "$@"; then return; fi
    fi
    echo "building the standard library for $*"
    build_std
    # shellcheck disable=SC2034 # used by the scripts
    std_args=('-Zbuild-std=std,panic_unwind,test')
}

has_std() {
    local target folder
    for target in "$@"; do
        folder=$("${RUSTC:-rustc}" --print target-libdir --target "$target") || return 1
        compgen -G "$folder/libstd-*.rlib" >/dev/null && compgen -G "$folder/libtest-*.rlib" >/dev/null || return 1
    done
}

# build_std: from here on cargo uses a compiler that has its standard library's source, so that
# `-Zbuild-std` makes std for targets whose std is not installed. Debian's rustc-web is one, and
# comes with the distribution; RUSTC_BOOTSTRAP lets a release build take -Z options.
build_std() {
    local packages=(rustc-web rust-web-src libstd-rust-web-dev)
    if ! second_compiler >/dev/null; then
        apt_install "${packages[@]}" || die "needs Debian's second compiler: $(second_compiler) (${packages[*]})"
    fi
    second_compiler || die "the packages ${packages[*]} are no compiler that can build std"
    export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1
}

# Whether Debian's second compiler is complete; says what is wrong with it. Its files have the same
# names as those of Debian's first compiler, which is too old, and its packages come in several releases,
# of which only the same ones fit together.
second_compiler() {
    local version oldest folder=/usr/lib/rustlib/src/rust
    [[ -x /usr/bin/rustc && -x /usr/bin/rustdoc ]] || { echo 'there is no /usr/bin/rustc'; return 1; }
    version=$(/usr/bin/rustc --version | cut -d' ' -f2)
    oldest=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    printf '%s\n' "${oldest:?}" "$version" | sort --version-sort --check=quiet ||
        { echo "/usr/bin/rustc is Rust $version, not $oldest or newer"; return 1; }
    [[ -e $folder/library/std/Cargo.toml && $(cat $folder/src/version) == "$version" ]] ||
        { echo "$folder is not the source of Rust $version"; return 1; }
    # Build scripts run on this machine: its own std must be there, too.
    has_std_of_its_own || { echo '/usr/bin/rustc has no standard library'; return 1; }
}

has_std_of_its_own() {
    compgen -G "$(/usr/bin/rustc --print target-libdir)/libstd-*.rlib" >/dev/null
}
