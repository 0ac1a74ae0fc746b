# What the scripts share that drive the built programs with other people's clients. To be sourced; needs bash.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

# Ends the script well, or badly with SSH_MCP_REQUIRE_CLIENTS=1.
skip() {
    echo "skipped, this needs $*" >&2
    [[ ${SSH_MCP_REQUIRE_CLIENTS:-} != 1 ]]
    exit
}

dir=$(mktemp -d)
started=()
finish() {
    local pid
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$dir"
}
trap finish EXIT

# The first number of the version of Node.js.
node_version() {
    node -p 'process.versions.node.split(".")[0]'
}

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

# Starts an HTTP server of ours on a port, with its settings as NAME=VALUE.
start_http() {
    local program=$1 port=$2
    shift 2
    mkdir -p "$dir/home"
    env -i PATH="$PATH" HOME="$dir/home" MCP_PORT="$port" "$@" "$program" >"$dir/$port.log" 2>&1 &
    started+=($!)
    listening "$port" "$dir/$port.log"
}

# Installs what a lock file names into a folder under target/, unless it is there, and copies the folder's scripts beside
# it. Nothing that npm fetches ends up among the sources, and no package's own scripts run.
npm_folder() {
    local from=$1 to=$target/npm/$2
    shift 2
    mkdir -p "$to"
    cp "$from"/package.json "$from"/*.mjs "$to/"
    if ! cmp -s "$from/package-lock.json" "$to/installed.json"; then
        cp "$from/package-lock.json" "$to/"
        # Called in $(..), where a failure would not end the script by itself.
        (cd "$to" && npm ci --loglevel=error --no-audit --no-fund --ignore-scripts "$@") >&2 || return
        cp "$from/package-lock.json" "$to/installed.json"
    fi
    echo "$to"
}
