#!/bin/sh
# Install orch on this machine:
#
#   curl -sfL <address of this script> | sh -
#   curl -sfL <address of this script> | ORCH_URL=https://server:6443 ORCH_TOKEN=... sh -s - agent
#
# Settings, as environment variables:
#   INSTALL_ORCH_BASE_URL       where the releases are: <base>/<version>/orch-<arch>
#   INSTALL_ORCH_VERSION        the version to install; the channel's newest when not set
#   INSTALL_ORCH_CHANNEL        stable (the default) or latest
#   INSTALL_ORCH_SKIP_DOWNLOAD  true: use the binary that is in INSTALL_ORCH_BIN_DIR
#   INSTALL_ORCH_BINARY         a binary on this machine to install instead of a download
#   INSTALL_ORCH_BIN_DIR        /usr/local/bin
#   INSTALL_ORCH_SYSTEMD_DIR    /etc/systemd/system
#   INSTALL_ORCH_NAME           name of the service: orch, or orch-agent
#   INSTALL_ORCH_EXEC           command and flags of the service, when not given as arguments
#   INSTALL_ORCH_SKIP_ENABLE    true: do not enable the service
#   INSTALL_ORCH_SKIP_START     true: do not start the service
#   INSTALL_ORCH_FORCE_RESTART  true: restart even when nothing changed
# All other ORCH_* variables go into the service's environment.
#
# The download is checked against <base>/<version>/sha256sums.
set -eu
{

BASE_URL=${INSTALL_ORCH_BASE_URL:-https://github.com/orch/orch/releases/download}
BIN_DIR=${INSTALL_ORCH_BIN_DIR:-/usr/local/bin}
SYSTEMD_DIR=${INSTALL_ORCH_SYSTEMD_DIR:-/etc/systemd/system}
CONFIG_DIR=/etc/orch
ENV_FILE=$CONFIG_DIR/orch.env
BINARY=$BIN_DIR/orch

say() { printf '[orch] %s\n' "$*"; }
die() { printf '[orch] %s\n' "$*" >&2; exit 1; }

SUDO=
[ "$(id -u)" -eq 0 ] || SUDO=sudo
if [ -n "$SUDO" ] && ! command -v sudo >/dev/null 2>&1; then die "run this as root, or install sudo"; fi

setup_arguments() {
  if [ $# -eq 0 ] && [ -n "${INSTALL_ORCH_EXEC:-}" ]; then
    # shellcheck disable=SC2086
    set -- $INSTALL_ORCH_EXEC
  fi
  case "${1:-}" in
    server|agent) COMMAND=$1; shift ;;
    ''|-*) if [ -n "${ORCH_URL:-}" ]; then COMMAND=agent; else COMMAND=server; fi ;;
    *) die "unknown command '$1': give server or agent, then flags" ;;
  esac
  if [ "$COMMAND" = agent ] && [ -z "${ORCH_TOKEN:-}${ORCH_TOKEN_FILE:-}" ]; then
    case " $* " in *" --token"*|*" -t "*) ;; *) die "an agent needs ORCH_TOKEN: it is in /var/lib/orch/server/token on the server" ;; esac
  fi
  EXEC=$COMMAND
  for argument in "$@"; do EXEC="$EXEC $(quote "$argument")"; done
  if [ "$COMMAND" = agent ]; then NAME=${INSTALL_ORCH_NAME:-orch-agent}; else NAME=${INSTALL_ORCH_NAME:-orch}; fi
  UNIT=$SYSTEMD_DIR/$NAME.service
}

# Quoted as systemd and a shell both read it.
quote() {
  case $1 in
    *[!A-Za-z0-9_./:=,@%+-]*|'') printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"$`]/\\&/g')" ;;
    *) printf '%s' "$1" ;;
  esac
}

arch() {
  case $(uname -m) in
    x86_64|amd64) echo amd64 ;;
    aarch64|arm64) echo arm64 ;;
    armv7*|armv6*|arm) echo arm ;;
    riscv64) echo riscv64 ;;
    *) die "no build for $(uname -m): build it from source with scripts/quickstart" ;;
  esac
}

fetch() { # fetch URL FILE
  if command -v curl >/dev/null 2>&1; then curl -fsSL --proto '=https' --retry 3 -o "$2" "$1"
  elif command -v wget >/dev/null 2>&1; then wget -q -O "$2" "$1"
  else die "install curl or wget"; fi || die "cannot fetch $1"
}

download() {
  TMP=$(mktemp -d)
  trap 'rm -rf "$TMP"' EXIT INT TERM
  if [ -n "${INSTALL_ORCH_BINARY:-}" ]; then
    [ -f "$INSTALL_ORCH_BINARY" ] || die "INSTALL_ORCH_BINARY: no file $INSTALL_ORCH_BINARY"
    cp "$INSTALL_ORCH_BINARY" "$TMP/orch"
  elif [ "${INSTALL_ORCH_SKIP_DOWNLOAD:-false}" = true ]; then
    [ -x "$BINARY" ] || die "INSTALL_ORCH_SKIP_DOWNLOAD is set, but there is no $BINARY"
    return 0
  else
    VERSION=${INSTALL_ORCH_VERSION:-}
    if [ -z "$VERSION" ]; then
      fetch "${BASE_URL%/download}/channels/${INSTALL_ORCH_CHANNEL:-stable}" "$TMP/version"
      VERSION=$(tr -d '[:space:]' <"$TMP/version")
    fi
    ARCH=$(arch)
    say "fetching orch $VERSION for $ARCH"
    fetch "$BASE_URL/$VERSION/sha256sums" "$TMP/sha256sums"
    fetch "$BASE_URL/$VERSION/orch-$ARCH" "$TMP/orch"
    WANT=$(awk -v name="orch-$ARCH" '$2 == name || $2 == "*" name { print $1 }' "$TMP/sha256sums")
    [ -n "$WANT" ] || die "sha256sums of $VERSION does not name orch-$ARCH"
    HAVE=$(sha256sum "$TMP/orch" | cut -d' ' -f1)
    [ "$WANT" = "$HAVE" ] || die "orch-$ARCH is damaged: its sha256 is $HAVE, not $WANT"
  fi
  chmod 755 "$TMP/orch"
  "$TMP/orch" --version >/dev/null || die "the binary does not run on this machine"
  if ! cmp -s "$TMP/orch" "$BINARY" 2>/dev/null; then
    $SUDO mkdir -p "$BIN_DIR"
    $SUDO cp "$TMP/orch" "$BINARY.new"
    $SUDO chown root:root "$BINARY.new"
    $SUDO mv -f "$BINARY.new" "$BINARY"
    say "installed $BINARY"
  fi
}

state() { # what a restart depends on
  cat "$BINARY" "$UNIT" "$ENV_FILE" 2>/dev/null | sha256sum
}

write_environment() {
  $SUDO mkdir -p "$CONFIG_DIR"
  env | grep '^ORCH_' | grep -v '^ORCH_CONFIG_FILE=$' | sort | $SUDO sh -c "umask 077; cat >'$ENV_FILE.new'; mv '$ENV_FILE.new' '$ENV_FILE'"
}

check_machine() {
  if [ ! -e /sys/fs/cgroup/cgroup.controllers ] && [ ! -d /sys/fs/cgroup/memory ]; then
    say "warning: the memory cgroup is off; add cgroup_enable=memory cgroup_memory=1 to the kernel's command line and reboot"
  fi
  $SUDO "$BINARY" check-config || say "warning: mend the above, or orch will not start"
}

service_systemd() {
  $SUDO sh -c "cat >'$UNIT'" <<UNIT_END
[Unit]
Description=orch: a whole Kubernetes in one binary ($COMMAND)
Documentation=https://github.com/orch/orch
Wants=network-online.target
After=network-online.target local-fs.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
EnvironmentFile=-/etc/default/$NAME
EnvironmentFile=-$ENV_FILE
ExecStartPre=-/sbin/modprobe -a overlay nf_conntrack
ExecStart=$BINARY $EXEC
KillMode=process
Delegate=yes
Restart=always
RestartSec=2s
TimeoutStartSec=0
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
UNIT_END
  $SUDO systemctl daemon-reload
  [ "${INSTALL_ORCH_SKIP_ENABLE:-false}" = true ] || $SUDO systemctl enable -q "$NAME"
  [ "${INSTALL_ORCH_SKIP_START:-false}" = true ] && return 0
  if [ "$BEFORE" = "$(state)" ] && [ "${INSTALL_ORCH_FORCE_RESTART:-false}" != true ] && $SUDO systemctl -q is-active "$NAME"; then
    say "nothing changed: $NAME goes on as it is"
    return 0
  fi
  say "starting $NAME"
  $SUDO systemctl restart "$NAME"
}

service_openrc() {
  $SUDO sh -c "cat >'/etc/init.d/$NAME'; chmod 755 '/etc/init.d/$NAME'" <<OPENRC_END
#!/sbin/openrc-run
name="$NAME"
command="$BINARY"
command_args="$EXEC"
supervisor="supervise-daemon"
respawn_delay=2
respawn_max=0
output_log="/var/log/$NAME.log"
error_log="/var/log/$NAME.log"
rc_ulimit="-n 1048576"
depend() {
  want net
  after firewall cgroups
}
start_pre() {
  if [ -f $ENV_FILE ]; then set -a; . $ENV_FILE; set +a; fi
  modprobe -qa overlay nf_conntrack
  return 0
}
OPENRC_END
  UNIT=/etc/init.d/$NAME
  [ "${INSTALL_ORCH_SKIP_ENABLE:-false}" = true ] || $SUDO rc-update -q add "$NAME" default
  [ "${INSTALL_ORCH_SKIP_START:-false}" = true ] && return 0
  say "starting $NAME"
  $SUDO rc-service "$NAME" restart
}

setup_arguments "$@"
BEFORE=$(state)
download
write_environment
check_machine
if [ -d /run/systemd/system ]; then service_systemd
elif command -v rc-service >/dev/null 2>&1; then service_openrc
else say "neither systemd nor OpenRC is here: start it yourself with \"$BINARY $EXEC\""; fi
if [ "$COMMAND" = server ]; then say "kubeconfig: /etc/orch/orch.yaml; try: KUBECONFIG=/etc/orch/orch.yaml kubectl get nodes"; fi
exit 0
}
