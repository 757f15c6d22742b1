# Sourced by scripts/test and scripts/quickstart: install what is missing. Debian and the like.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# need PROGRAM PACKAGE: remember the package when the program is not there.
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need_file() { [ -e "$1" ] || missing+=("$2"); }

need_build() {
  command -v cargo >/dev/null 2>&1 || { say "no cargo: install the Rust toolchain first, see https://rustup.rs"; exit 1; }
  need cc gcc
  need_file /usr/include/linux/types.h linux-libc-dev
  need_file /usr/include/stdlib.h libc6-dev
  need_file "/usr/lib/$(uname -m)-linux-gnu/libseccomp.a" libseccomp-dev
}

need_node() {
  need ip iproute2
  need iptables iptables
  need modprobe kmod
}

need_images() {
  need python3 python3
  need mmdebstrap mmdebstrap
}

need_kubectl() { need kubectl kubernetes-client; }

need_lab() {
  need qemu-system-x86_64 qemu-system-x86
  need qemu-img qemu-utils
  need mmdebstrap mmdebstrap
  need mke2fs e2fsprogs
  need strip binutils
}

install_missing() {
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null 2>&1 || { say "install these first: ${missing[*]}"; exit 1; }
  [ "$(id -u)" = 0 ] || { say "run this as root, or install first: apt-get install ${missing[*]}"; exit 1; }
  say "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  missing=()
}
