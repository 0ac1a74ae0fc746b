#!/usr/bin/env bash
# Drives the built programs with MCP clients that are not ours, against a throw-away sshd on loopback: the official SDKs for
# TypeScript (1.x and 2.x) and Python, and the command line of the Inspector.
#
#   tests/clients/run.sh [dev|release]
#
# Needs Node.js 20 and npm, which fetches SDKs, OpenSSH's server, and Python 3.11 with venv and pip for its part. Says so and
# ends well where they are missing; with SSH_MCP_REQUIRE_CLIENTS=1 it fails. What is fetched is kept under target/.
set -euo pipefail
# shellcheck source=support.sh
source "$(dirname "$0")/support.sh"
here=$root/tests/clients
profile=${1:-dev}

PATH=$PATH:/usr/sbin:/sbin
command -v node >/dev/null || skip "Node.js"
[[ $(node_version) -ge 20 ]] || skip "Node.js 20 or later"
command -v npm >/dev/null || skip "npm"
# sshd starts itself again for each connection, so it insists on an absolute path.
sshd=$(command -v sshd) || skip "OpenSSH's server"
command -v ssh-keygen >/dev/null || skip "ssh-keygen"

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
    # Many clients log in at the same time: sshd must not turn them away at random.
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
MaxStartups 200
CONFIG
    "$sshd" -D -e -f "$dir/sshd_config" 2>"$dir/sshd.log" &
    started+=($!)
    listening "$ssh_port" "$dir/sshd.log"
}

# Starts a host that asks for a password and a one-time code; tells them in a file.
start_one_time_code() {
    "$programs/examples/one_time_code" >"$dir/one_time_code.json" 2>"$dir/one_time_code.log" &
    started+=($!)
    for _ in {1..200}; do
        [[ -s $dir/one_time_code.json ]] && return
        sleep 0.05
    done
    cat "$dir/one_time_code.log" >&2
    return 1
}

# Prints the Python of a virtual environment with the SDK; nothing where there is none to be had.
python_with_sdk() {
    local venv=$target/python
    command -v python3 >/dev/null || return 0
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || return 0
    if ! cmp -s "$here/python/requirements.txt" "$venv/installed.txt"; then
        rm -rf "$venv"
        python3 -m venv "$venv" >/dev/null 2>&1 || return 0
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/python/requirements.txt" >&2 ||
            return
        cp "$here/python/requirements.txt" "$venv/installed.txt"
    fi
    echo "$venv/bin/python"
}

# Runs one client in the background. Its scenarios go to a file of its own.
client() {
    local name=$1
    shift
    HOME=$dir/home "$@" >"$dir/$name.out" 2>"$dir/$name.err" &
    clients[$!]=$name
}

# The examples are named too: alone, the programs would not share their dependencies' features with the other tests, and
# everything would be compiled a second time.
cargo build --manifest-path "$root/Cargo.toml" --locked --profile "$profile" --bins --examples
programs=$target/${profile/#dev/debug}
typescript=$(npm_folder "$here/typescript" typescript)
inspector=$(npm_folder "$here/inspector" inspector)
python=$(python_with_sdk)
user=$(ssh_user)
ssh_port=$(free_port)
mcp_port=$(free_port)
start_sshd
start_one_time_code
# Keys are read from allowed directories only.
start_http "$programs/ssh-mcp" "$mcp_port" SSH_KEY_ROOTS="$dir"

address="$user@127.0.0.1:$ssh_port"
common=(--address "$address" --key "$dir/client_key" --stdio "$programs/ssh-mcp-stdio" --url "http://127.0.0.1:$mcp_port")
code=(--code "$dir/one_time_code.json")
# The scenario of the elicitation starts servers of its own, with this setting.
ask=()
if [[ $("$programs/ssh-mcp" --help) == *SSH_HOST_KEY_POLICY* ]]; then
    ask=(--ask)
fi

declare -A clients
client all-tools node "$typescript/all-tools.mjs" --address "$address" --key "$dir/client_key" \
    --command "$programs/ssh-mcp-stdio" --url "http://127.0.0.1:$mcp_port"
client sdk1 node "$typescript/scenarios.mjs" --sdk 1 "${common[@]}" "${code[@]}" --http "$programs/ssh-mcp" "${ask[@]}"
client sdk2 node "$typescript/scenarios.mjs" --sdk 2 "${common[@]}" "${code[@]}" --http "$programs/ssh-mcp" "${ask[@]}"
if [[ -n $python ]]; then
    client python "$python" "$here/python/scenarios.py" "${common[@]}" "${code[@]}" --http "$programs/ssh-mcp" "${ask[@]}"
fi
(cd "$inspector" && HOME=$dir/home node scenarios.mjs "${common[@]}") >"$dir/inspector.out" 2>"$dir/inspector.err" &
clients[$!]=inspector

failed=0
for pid in "${!clients[@]}"; do
    name=${clients[$pid]}
    if ! wait "$pid"; then
        echo "the client $name failed" >&2
        cat "$dir/$name.err" >&2
        failed=1
    fi
done
cat "$dir/all-tools.out"
echo
cat "$dir"/{sdk1,sdk2,python,inspector}.out 2>/dev/null | node "$here/table.mjs"
[[ $failed -eq 0 ]] || exit 1
[[ -n $python ]] || skip "Python 3.11 with venv, for the part of the Python SDK"
