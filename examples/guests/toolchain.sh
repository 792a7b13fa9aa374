#!/usr/bin/env bash
# Finds or builds a Rust compiler for wasm32-unknown-unknown.
#
#   examples/guests/toolchain.sh --print   print the path of the rustc, for the variable RUSTC
#
# Scripts such as `build` source this file instead. They set `root`, the folder of the workspace. After
# `find_compiler`:
#   compiler        path of the rustc to use for guests
#   compiler_name   its version line, e.g. "rustc 1.96.0 (...)"
#   linker          path of wasm-component-ld, which turns the compiler's output into a component
#   linker_path     folder with wasm-ld, to be put in front of PATH
#
# Two kinds of machine:
#   * The current toolchain has the target (`rustup target add wasm32-unknown-unknown`): it is used.
#   * It does not, and cannot get it: on Debian and its descendants, the packages of `rustc-web` contain a
#     compiler and the source of the standard library. They are unpacked (not installed, so no root is needed)
#     into a cache folder, and the library is built for the target. That takes a minute or two, once per
#     version. The linker is always that of the current toolchain, since Debian's packages have none for wasm.

readonly target=wasm32-unknown-unknown

say() { printf '%s\n' "guests: $*" >&2; }
die() { say "$*"; exit 1; }

# Returns whether version $1 is at least $2, both like 1.95 or 1.96.0.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# The oldest compiler that the workspace accepts.
# shellcheck disable=SC2154
minimum_rust() { sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1; }

find_compiler() {
    local tool
    for tool in cargo rustc; do
        command -v "$tool" >/dev/null || die "$tool is not installed; see https://rustup.rs"
    done
    local host bin
    host=$(rustc -vV | sed -n 's/^host: //p')
    bin=$(rustc --print sysroot)/lib/rustlib/$host/bin
    linker=$bin/wasm-component-ld
    linker_path=$bin/gcc-ld
    [ -x "$linker" ] || linker=$(command -v wasm-component-ld) \
        || die "no wasm-component-ld in this toolchain: run 'cargo install wasm-component-ld'"
    [ -x "$linker_path/wasm-ld" ] || linker_path=$(dirname "$(command -v wasm-ld)") 2>/dev/null \
        || die "no wasm-ld in this toolchain: install lld"

    if compgen -G "$(rustc --print target-libdir --target $target)/libstd-*.rlib" >/dev/null; then
        compiler=$(rustc --print sysroot)/bin/rustc
        [ -x "$compiler" ] || compiler=$(command -v rustc)
    else
        debian_compiler "$host"
    fi
    compiler_name=$("$compiler" -V)
    local wanted
    wanted=$(minimum_rust)
    at_least "$(printf '%s' "$compiler_name" | cut -d ' ' -f 2)" "$wanted" \
        || die "$compiler_name is too old: the workspace needs $wanted"
}

# Sets `compiler` to Debian's, unpacked into the cache, and builds its library there if missing.
debian_compiler() {
    local host=$1 tool
    for tool in dpkg dpkg-deb apt-get apt-cache flock; do
        command -v "$tool" >/dev/null \
            || die "this toolchain cannot compile for wasm: run 'rustup target add $target'"
    done
    local cache=${BLOCKCAST_TOOLCHAINS:-${XDG_CACHE_HOME:-$HOME/.cache}/blockcast/toolchains}
    mkdir -p "$cache"
    # Of two concurrent runs, the second waits for the first and finds its work done. The lock ends with the
    # process.
    exec 8>"$cache/lock"
    flock --nonblock 8 || { say "waiting for another run that prepares the compiler"; flock 8; }

    apt_options=()
    local version
    version=$(candidate rustc-web)
    if [ -z "$version" ] || ! at_least "$version" "$(minimum_rust)"; then
        refresh_package_lists "$cache"
        version=$(candidate rustc-web)
    fi
    [ -n "$version" ] || die "no package rustc-web here: run 'rustup target add $target' or use Debian 12 or newer"
    at_least "$version" "$(minimum_rust)" \
        || die "package rustc-web $version is too old: the workspace needs $(minimum_rust) (is the security archive enabled?)"

    local ready=$cache/rustc-web-$version-$host
    if [ ! -x "$ready/rustc" ]; then
        rm -rf "$cache"/*.partial                        # left by an interrupted run
        say "preparing $target from Debian's rustc-web $version in $ready"
        unpack_packages "$version" "$ready.partial"
        build_standard_library "$host" "$ready.partial"
        rm -rf "$ready"
        mv "$ready.partial" "$ready"                     # complete from here on
        write_launcher "$ready"
    fi
    exec 8>&-
    compiler=$ready/rustc
}

# Prints the version of package $1 that apt would install, if any.
candidate() {
    apt-cache "${apt_options[@]}" policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: //p' | grep -v '(none)' || true
}

# Downloads apt's package lists into a folder under $1. The system's lists may be missing or outdated, and
# only root may update them.
refresh_package_lists() {
    say "package lists are missing or old: apt-get update (into the cache folder)"
    mkdir -p "$1/apt/lists/partial" "$1/apt/archives/partial"
    apt_options=(-o "Dir::State::lists=$1/apt/lists" -o "Dir::Cache=$1/apt" -o "APT::Sandbox::User=$(id -un)")
    apt-get "${apt_options[@]}" -qq update || say "apt-get update reported an error; trying what it got"
}

# Unpacks the packages of rustc-web $1 into folder $2: $2/sysroot (compiler) and $2/library (source).
unpack_packages() {
    local version=$1 folder=$2 package
    mkdir -p "$folder/debs" "$folder/files"
    local standard llvm
    standard=$(dependencies "libstd-rust-web-dev=$version" | grep '^libstd-rust-web-[0-9]' | head -n 1)
    llvm=$(dependencies "$standard=$version" | grep '^libllvm[0-9]' | head -n 1)
    local wanted=("rustc-web=$version" "libstd-rust-web-dev=$version" "$standard=$version" "rust-web-src=$version" "$llvm")
    download "$folder/debs" "${wanted[@]}"
    for package in "$folder"/debs/*.deb; do dpkg-deb -x "$package" "$folder/files"; done
    rm -rf "$folder/debs"

    local files=$folder/files/usr
    mkdir -p "$folder/sysroot/bin" "$folder/sysroot/lib"
    mv "$files/bin/rustc" "$folder/sysroot/bin/"
    mv "$files"/lib/*-linux-gnu/*.so* "$folder/sysroot/lib/"
    rm -rf "$files/lib/rustlib/src"                      # a link to the source, which is moved below
    mv "$files/lib/rustlib" "$folder/sysroot/lib/"
    mv "$files"/src/rustc-*/library "$folder/library"
    rm -rf "$folder/files"
    add_missing_libraries "$folder"
    write_launcher "$folder"
    "$folder/rustc" -V >/dev/null || die "the compiler of rustc-web $version does not run here"
}

# Prints the packages that $1 (name=version) depends on, one per line.
dependencies() {
    apt-cache "${apt_options[@]}" show "$1" | sed -n 's/^Depends: //p' | head -n 1 | tr ',' '\n' | sed 's/^ *//; s/[ (].*//'
}

# Downloads the packages $2... into folder $1. Retries with fresh lists if the archive has changed.
download() {
    local folder=$1
    shift
    (cd "$folder" && apt-get "${apt_options[@]}" -qq -o APT::Sandbox::User="$(id -un)" download "$@") && return
    refresh_package_lists "$(dirname "$(dirname "$folder")")"
    (cd "$folder" && apt-get "${apt_options[@]}" -qq download "$@") || die "cannot download $*"
}

# Debian's LLVM needs a few libraries that a small system may lack, so unpack those too.
add_missing_libraries() {
    local folder=$1 lib=$1/sysroot/lib
    missing() { LD_LIBRARY_PATH=$lib ldd "$lib"/lib*.so* 2>/dev/null | grep -c 'not found' || true; }
    [ "$(missing)" = 0 ] && return
    mkdir -p "$folder/debs" "$folder/files"
    download "$folder/debs" libedit2 libffi8 libxml2 libz3-4 libzstd1 zlib1g libbsd0 libmd0 libtinfo6 libicu72 liblzma5 libstdc++6
    local package
    for package in "$folder"/debs/*.deb; do dpkg-deb -x "$package" "$folder/files"; done
    find "$folder/files" -path '*-linux-gnu/*.so*' -exec cp -Pn {} "$lib/" \;
    rm -rf "$folder/debs" "$folder/files"
    [ "$(missing)" = 0 ] || die "Debian's compiler lacks libraries here: run 'apt-get install rustc-web'"
}

# $1/rustc starts the compiler with its own libraries. It determines its own path, because it must work after
# $1 was renamed.
write_launcher() {
    cat >"$1/rustc" <<'LAUNCHER'
#!/bin/sh
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
LD_LIBRARY_PATH="$here/sysroot/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$here/sysroot/bin/rustc" "$@"
LAUNCHER
    chmod +x "$1/rustc"
}

# Builds the standard library in $2/library for the target, into $2/sysroot; host $1.
build_standard_library() {
    local folder=$2 library=$2/library
    # Uses the library's own build rules and the crates that come with its source. A release compiler needs
    # RUSTC_BOOTSTRAP for the library's unstable features.
    env -u RUSTC_WRAPPER -u RUSTC_WORKSPACE_WRAPPER -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_TARGET \
        RUSTC="$folder/rustc" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$folder/build" CARGO_INCREMENTAL=0 \
        RUSTFLAGS="-Zforce-unstable-if-unmarked -Cembed-bitcode=yes --remap-path-prefix=$library=/rustc/library" \
        cargo build -q -Zavoid-dev-deps --release --locked --offline --target $target \
        --manifest-path "$library/sysroot/Cargo.toml" --features panic-unwind \
        --config 'source.crates-io.replace-with="shipped"' --config "source.shipped.directory='$library/vendor'" \
        || die "the standard library does not build for $target"
    mkdir -p "$folder/sysroot/lib/rustlib/$target/lib"
    cp "$folder/build/$target/release/deps/"*.rlib "$folder/sysroot/lib/rustlib/$target/lib/"
    rm -rf "$folder/build" "$library"
}

# If this file is run instead of sourced:
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    [ "$*" = --print ] || { say "usage: toolchain.sh --print"; exit 2; }
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    find_compiler >&2
    printf '%s\n' "$compiler"
fi
