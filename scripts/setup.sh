#!/bin/bash
# Makes a fresh Debian 12 ready to build, test and demonstrate kup: packages by apt, and two kernels
# with their headers that are downloaded and unpacked, but not installed, into .cache/kernels/ and .cache/headers/. Run as root.
# Does nothing, and needs no network, when everything is there already.
#
#   setup.sh           what `make test` needs: kernels of Debian's cloud flavour
#   setup.sh generic   those of the generic flavour as well, for the long tests: some 350 MB more
set -euo pipefail

cd "$(dirname "$0")/.."
kernel_cache=$PWD/.cache/kernels
generic_cache=$kernel_cache/generic
header_cache=$PWD/.cache/headers
go_wanted=1.26

# One line per package: a file that proves it is there, and the package that brings it.
needs='
/usr/bin/qemu-system-x86_64   qemu-system-x86
/usr/share/seabios/bios.bin   seabios
/usr/share/ovmf/OVMF.fd       ovmf
/usr/bin/memcached            memcached
/usr/bin/redis-server         redis-server
/usr/bin/redis-cli            redis-tools
/usr/bin/busybox              busybox-static
/usr/bin/gcc                  gcc
/usr/bin/x86_64-linux-gnu-gcc-12 gcc-12
/usr/include/stdio.h          libc6-dev
/usr/lib/x86_64-linux-gnu/libc.a libc6-dev
/usr/sbin/ip                  iproute2
/usr/sbin/mkfs.ext4           e2fsprogs
/usr/sbin/nft                 nftables
/usr/bin/make                 make
/usr/bin/git                  git
/usr/bin/xz                   xz-utils
/usr/bin/lz4                  lz4
/usr/bin/zstd                 zstd
/etc/ssl/certs/ca-certificates.crt ca-certificates
'

# One line per kernel line: a name for people, and what a signed image package of it is called.
kernels='
6.1   ^linux-image-6\.1\.[0-9]+-[0-9]+-cloud-amd64$
6.12  ^linux-image-6\.12\.[0-9.]+(-[0-9]+)?\+deb12-cloud-amd64$
'
generic_kernels='
6.1   ^linux-image-6\.1\.[0-9]+-[0-9]+-amd64$
6.12  ^linux-image-6\.12\.[0-9.]+(-[0-9]+)?\+deb12-amd64$
'

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }

lists_fresh=
refresh_lists() {
    [ -n "$lists_fresh" ] && return
    say "reading the package lists (apt-get update)"
    # One unreachable third-party source must not stop the set-up; a package that is really missing does, below.
    apt-get update -qq || say "apt-get update reported errors; going on with the lists there are"
    lists_fresh=1
}

check_go() {
    command -v go >/dev/null ||
        die "no go command found: install Go $go_wanted or newer (https://go.dev/dl/) and put it into PATH"
    local have
    have=$(go env GOVERSION) # Follows go.mod's toolchain rules, so it names the Go that will really build.
    have=${have#go}
    [ "$(printf '%s\n%s\n' "$go_wanted" "$have" | sort -V | head -n1)" = "$go_wanted" ] ||
        die "go is version $have, but kup needs $go_wanted or newer (https://go.dev/dl/)"
}

# The tests start memcached and redis themselves: the packages' own services must not take their ports.
# policy-rc.d is Debian's way to say so to invoke-rc.d and deb-systemd-invoke; a policy of the machine's owner stays.
policy=/usr/sbin/policy-rc.d
policy_is_ours=
keep_services_stopped() {
    [ -e "$policy" ] && return
    policy_is_ours=1
    trap allow_services EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy" # 101: action forbidden by policy
    chmod 755 "$policy"
}
allow_services() {
    [ -z "$policy_is_ours" ] || rm -f "$policy"
    policy_is_ours=
}

install_packages() {
    local missing=() file package
    while read -r file package; do
        [ -z "$file" ] || [ -e "$file" ] || missing+=("$package")
    done <<<"$needs"
    [ ${#missing[@]} -gt 0 ] || return 0
    refresh_lists
    say "installing: ${missing[*]}"
    keep_services_stopped
    DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" >/dev/null ||
        die "apt-get could not install: ${missing[*]}"
    allow_services
    while read -r file package; do
        [ -z "$file" ] || [ -e "$file" ] || die "package $package is installed but $file is missing"
    done <<<"$needs"
}

# unpack_kernel CACHE PACKAGE: download one image package and unpack it to CACHE/RELEASE, atomically.
unpack_kernel() {
    local cache=$1 package=$2 release=${2#linux-image-} tmp
    tmp=$(mktemp -d "$cache/.unpack.XXXXXX")
    chmod 755 "$tmp" # apt drops root for downloads and must be able to look into the folder.
    if ! (cd "$tmp" && apt-get download -qq -o APT::Sandbox::User=root "$package"); then
        rm -rf "$tmp"
        return 1
    fi
    dpkg -x "$tmp"/linux-image-*.deb "$tmp/root"
    [ -s "$tmp/root/boot/vmlinuz-$release" ] && [ -d "$tmp/root/lib/modules/$release" ] ||
        die "package $package holds no boot/vmlinuz-$release or no lib/modules/$release"
    mv "$tmp/root" "$cache/$release"
    rm -rf "$tmp"
}

# fetch_kernels CACHE KERNELS: one kernel for each line of a table as above.
fetch_kernels() {
    local cache=$1 line pattern found package
    mkdir -p "$cache"
    while read -r line pattern; do
        [ -n "$line" ] || continue
        ls "$cache/$line".*/boot/vmlinuz-* >/dev/null 2>&1 && continue
        refresh_lists
        found=
        # Newest first; an older one serves when the newest is listed but cannot be fetched.
        for package in $(apt-cache pkgnames linux-image-"$line". | grep -E "$pattern" | sort -rV); do
            say "kernel $line: downloading and unpacking $package"
            if unpack_kernel "$cache" "$package"; then found=$package; break; fi
        done
        [ -n "$found" ] || die "no kernel package matching $pattern could be downloaded; is the Debian 12 archive (with bookworm-security and bookworm-updates or backports) among the apt sources?"
    done <<<"$2"
}

# packages_of PACKAGE: a package of headers and those that it needs of the same kernel: common ones, and the programs of the build.
packages_of() {
    echo "$1"
    apt-cache show --no-all-versions "$1" | sed -n 's/^Depends: //p' | tr ',|' '\n\n' | sed 's/^ *//; s/ .*//' | grep -E '^linux-(headers|kbuild)-'
}

# unpack_headers RELEASE: download the headers of one kernel and unpack them to .cache/headers/RELEASE, atomically.
unpack_headers() {
    local release=$1 tmp package packages
    packages=$(packages_of "linux-headers-$release") || return 1
    tmp=$(mktemp -d "$header_cache/.unpack.XXXXXX")
    chmod 755 "$tmp"
    # shellcheck disable=SC2086 # They are several.
    if ! (cd "$tmp" && apt-get download -qq -o APT::Sandbox::User=root $packages); then
        rm -rf "$tmp"
        return 1
    fi
    for package in "$tmp"/*.deb; do dpkg -x "$package" "$tmp/root"; done
    # They expect to be in /usr/src.
    sed -i 's|^include /usr/src/|include $(dir $(lastword $(MAKEFILE_LIST)))../|' "$tmp/root/usr/src/linux-headers-$release/Makefile"
    mv "$tmp/root" "$header_cache/$release"
    rm -rf "$tmp"
}

# fetch_headers CACHE: the headers of all kernels in it.
fetch_headers() {
    local dir release
    mkdir -p "$header_cache"
    for dir in "$1"/[0-9]*; do
        release=${dir##*/}
        [ -e "$header_cache/$release/usr/src/linux-headers-$release/Makefile" ] && continue
        refresh_lists
        say "kernel $release: downloading and unpacking its headers"
        unpack_headers "$release" ||
            die "the headers of kernel $release could not be downloaded; if they are gone from the archive, remove $dir to have a newer kernel fetched"
    done
}

[ "$(id -u)" = 0 ] || die "must run as root: installs packages, and the guests need namespaces and tap devices"
. /etc/os-release
[ "${ID:-} ${VERSION_ID:-}" = "debian 12" ] || say "this is ${PRETTY_NAME:-an unknown system}, not Debian 12; trying anyway"
check_go
install_packages
fetch_kernels "$kernel_cache" "$kernels"
fetch_headers "$kernel_cache"
if [ "${1:-}" = generic ]; then
    fetch_kernels "$generic_cache" "$generic_kernels"
    fetch_headers "$generic_cache"
fi
say "ready: $(cd "$kernel_cache" && echo [0-9]*), $(go env GOVERSION)"
