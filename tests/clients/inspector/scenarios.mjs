// Drives ssh-mcp with the command line of the MCP Inspector over every transport: the list of tools, and one call.
//
//   node scenarios.mjs --address USER@HOST:PORT --key FILE --stdio ssh-mcp-stdio --url URL

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs, promisify } from "node:util";

const { values: options } = parseArgs({
  options: { address: { type: "string" }, key: { type: "string" }, stdio: { type: "string" }, url: { type: "string" } },
});
assert(options.address && options.key && options.stdio && options.url, "see the head of this file");

/** The program reads its packages anew at each start. */
const BOUND_MS = 30_000;
/** Keys are read from allowed directories only. */
const STDIO = [options.stdio, "-e", `SSH_KEY_ROOTS=${dirname(options.key)}`];
const WAYS = { stdio: STDIO, "/mcp": [`${options.url}/mcp`], "/sse": [`${options.url}/sse`] };

const manifest = new URL("node_modules/@modelcontextprotocol/inspector/package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest, "utf8"));
let failures = 0;

async function inspect(target, ...args) {
  const command = ["node_modules/.bin/mcp-inspector", "--cli", ...target, ...args];
  const { stdout } = await promisify(execFile)(process.execPath, command, { timeout: BOUND_MS });
  return JSON.parse(stdout);
}

async function scenario(transport, name, body) {
  const began = performance.now();
  let [result, detail] = ["ok", ""];
  try {
    detail = (await body()) ?? "";
  } catch (error) {
    failures += 1;
    [result, detail] = ["FAILED", String(error?.message ?? error)];
  }
  const ms = Math.round(performance.now() - began);
  const client = `Inspector ${version}`;
  console.log(JSON.stringify({ client, transport, scenario: name, result, ms, detail: detail.slice(0, 300) }));
}

async function everything([transport, target]) {
  await scenario(transport, "tools/list", async () => {
    const { tools } = await inspect(target, "--method", "tools/list");
    assert(tools.some((tool) => tool.name === "ssh_execute"));
    return `${tools.length} tools`;
  });
  await scenario(transport, "tools/call", async () => {
    const call = ["--method", "tools/call", "--tool-name", "ssh_connect", "--tool-arg"];
    const result = await inspect(target, ...call, `address=${options.address}`, `key_path=${options.key}`);
    assert.equal(result.structuredContent.authenticated, true, JSON.stringify(result));
  });
}

for (const way of Object.entries(WAYS)) {
  await everything(way);
}
process.exit(failures > 0 ? 1 : 0);
