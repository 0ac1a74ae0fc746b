#!/usr/bin/env bash
# Drives the built programs with MCP clients that are not ours, against a throw-away sshd on loopback.
#
#   tests/clients/run.sh [dev|release]
#
# Needs Node.js and npm, which fetches the SDK, and OpenSSH's server. Says so and ends well where they are missing;
# with SSH_MCP_REQUIRE_CLIENTS=1 it fails.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
profile=${1:-dev}

skip() {
    echo "skipped, this needs $*" >&2
    [[ ${SSH_MCP_REQUIRE_CLIENTS:-} != 1 ]]
    exit
}

PATH=$PATH:/usr/sbin:/sbin
command -v node >/dev/null || skip "Node.js"
command -v npm >/dev/null || skip "npm"
# sshd starts itself again for each connection, so it insists on an absolute path.
sshd=$(command -v sshd) || skip "OpenSSH's server"
command -v ssh-keygen >/dev/null || skip "ssh-keygen"

dir=$(mktemp -d)
started=()
finish() {
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$dir"
}
trap finish EXIT

# A port that was free just now.
free_port() {
    node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => {
        console.log(s.address().port); s.close(); })'
}

# Waits until something listens on a port; shows the log if that takes too long.
listening() {
    local port=$1 log=$2
    for _ in {1..200}; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            return
        fi
        sleep 0.05
    done
    cat "$log" >&2
    return 1
}

# Root serves an ordinary user: sshd does not pass on signals to root's own commands. It is the user of the other tests.
ssh_user() {
    if [[ $(id -u) -ne 0 ]]; then
        id -un
        return
    fi
    mkdir -p /run/sshd
    if ! id sshmcp-test >/dev/null 2>&1; then
        mkdir -p "$dir/skeleton"
        # No password, but not locked either: sshd refuses locked accounts.
        useradd --create-home --shell /bin/bash --skel "$dir/skeleton" --password '*' sshmcp-test
    fi
    echo sshmcp-test
}

start_sshd() {
    # authorized_keys is read as the user who logs in.
    chmod 755 "$dir"
    ssh-keygen -q -t ed25519 -N '' -f "$dir/host_key"
    ssh-keygen -q -t ed25519 -N '' -f "$dir/client_key"
    cp "$dir/client_key.pub" "$dir/authorized_keys"
    cat >"$dir/sshd_config" <<CONFIG
ListenAddress 127.0.0.1:$ssh_port
HostKey $dir/host_key
AuthorizedKeysFile $dir/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
CONFIG
    "$sshd" -D -e -f "$dir/sshd_config" 2>"$dir/sshd.log" &
    started+=($!)
    listening "$ssh_port" "$dir/sshd.log"
}

start_server() {
    env -i PATH="$PATH" HOME="$dir/home" SSH_KEY_ROOTS="$dir" MCP_PORT="$mcp_port" "$programs/ssh-mcp" >"$dir/ssh-mcp.log" 2>&1 &
    started+=($!)
    listening "$mcp_port" "$dir/ssh-mcp.log"
}

# The example is named too: alone, the programs would not share its dependencies' features with the other tests, and
# everything would be compiled a second time.
cargo build --manifest-path "$root/Cargo.toml" --locked --profile "$profile" --bins --example demo
programs=${CARGO_TARGET_DIR:-$root/target}/${profile/#dev/debug}
user=$(ssh_user)
ssh_port=$(free_port)
mcp_port=$(free_port)
mkdir "$dir/home"
start_sshd
start_server

# Outside of the repository: nothing that npm fetches ends up in it.
cp -R "$root/tests/clients/typescript" "$dir/typescript"
cd "$dir/typescript"
npm ci --silent --no-audit --no-fund --ignore-scripts
HOME=$dir/home node all-tools.mjs --address "$user@127.0.0.1:$ssh_port" --key "$dir/client_key" \
    --command "$programs/ssh-mcp-stdio" --url "http://127.0.0.1:$mcp_port"
