// Runs the conformance suite and counts. Every scenario that a revision requires has to pass on the server with the
// fixtures; on the product every scenario that needs none, but for the checks that product.yaml names.
//
//   node run.mjs --fixture URL --product URL --exempt product.yaml

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { parse } from "yaml";

const { values: options } = parseArgs({
  options: { fixture: { type: "string" }, product: { type: "string" }, exempt: { type: "string" } },
});
assert(options.fixture && options.product && options.exempt, "see the head of this file");

const SUITE = join(import.meta.dirname, "node_modules/@modelcontextprotocol/conformance");
const REVISIONS = ["2025-11-25", "2026-07-28"];
/** A scenario takes a second; one that hangs must not hold everything up. */
const SUITE_MS = 120_000;

const results = await mkdtemp(join(tmpdir(), "conformance-"));
const rows = [];
const faults = [];
const warnings = [];

/** Runs the suite and gives the checks of each scenario. */
async function suite(name, url, ...args) {
  const folder = join(results, name);
  const command = [join(SUITE, "dist/index.js"), "server", "--url", url, "--output-dir", folder, ...args];
  const child = spawn(process.execPath, command, { stdio: ["ignore", "pipe", "inherit"], timeout: SUITE_MS });
  let output = "";
  child.stdout.on("data", (data) => (output += data));
  const code = await new Promise((resolve) => child.on("close", resolve));
  const scenarios = new Map();
  for (const run of await readdir(folder).catch(() => [])) {
    // server-SCENARIO-TIME
    const scenario = run.replace(/^server-/, "").replace(/-\d{4}-\d{2}-\d{2}T[\d-]+Z$/, "");
    scenarios.set(scenario, JSON.parse(await readFile(join(folder, run, "checks.json"), "utf8")));
  }
  return { code, output, scenarios };
}

const counted = (checks) => checks.filter(({ status }) => status === "SUCCESS" || status === "FAILURE");
const failed = (checks) => checks.filter(({ status }) => status === "FAILURE");
const warned = (checks) => checks.filter(({ status }) => status === "WARNING");
const told = (scenario, { id, errorMessage }) => `${scenario}, ${id}: ${errorMessage}`;

function row(server, revision, group, scenarios) {
  for (const [scenario, checks] of scenarios) {
    warnings.push(...warned(checks).map((check) => `${server} ${revision}: ${told(scenario, check)}`));
  }
  const checks = scenarios.flatMap(([, checks]) => counted(checks));
  rows.push({
    server,
    revision,
    group,
    scenarios: `${scenarios.filter(([, checks]) => failed(checks).length === 0).length}/${scenarios.length}`,
    checks: `${checks.length - failed(checks).length}/${checks.length}`,
    warnings: String(scenarios.flatMap(([, checks]) => warned(checks)).length),
  });
}

async function fixture(revision) {
  const set = parse(await readFile(join(SUITE, `requirements/${revision}.yaml`), "utf8"));
  const { code, output, scenarios } = await suite(`fixture-${revision}`, options.fixture, "--requirements", revision);
  const ran = (names) => names.map((name) => [name, scenarios.get(name) ?? []]);
  const required = ran(set.server);
  row("fixtures", revision, "required", required);
  for (const [scenario, checks] of required) {
    if (counted(checks).length === 0) {
      faults.push(`fixtures ${revision}: ${scenario} made no check`);
    }
    faults.push(...failed(checks).map((check) => `fixtures ${revision}: ${told(scenario, check)}`));
  }
  if (code !== 0 && !faults.some((fault) => fault.startsWith(`fixtures ${revision}`))) {
    faults.push(`fixtures ${revision}: the suite ended with ${code}\n${output.slice(-2_000)}`);
  }
  for (const reason of ["pending", "added-after-release", "extension"]) {
    const names = set.not_scored.filter((one) => one.leg === "server" && one.reason === reason).map((one) => one.scenario);
    if (names.length > 0) {
      row("fixtures", revision, `not scored: ${reason}`, ran(names));
    }
  }
}

async function product(revision, exempt) {
  const kept = [];
  for (const scenario of exempt.scenarios[revision]) {
    const name = `product-${revision}-${scenario}`;
    const { output, scenarios } = await suite(name, options.product, "--scenario", scenario, "--spec-version", revision);
    const excused = exempt.not_applicable[scenario] ?? {};
    const all = scenarios.get(scenario) ?? [];
    const checks = all.filter(({ id }) => !(id in excused));
    if (counted(checks).length === 0) {
      faults.push(`product ${revision}: ${scenario} made no check\n${output.slice(-2_000)}`);
    }
    faults.push(...failed(checks).map((check) => `product ${revision}: ${told(scenario, check)}`));
    for (const id of Object.keys(excused)) {
      if (!failed(all).some((check) => check.id === id)) {
        faults.push(`product ${revision}: ${scenario}, ${id} passes and is in product.yaml`);
      }
    }
    kept.push([scenario, checks]);
  }
  row("ssh-mcp", revision, "without fixtures", kept);
}

try {
  const exempt = parse(await readFile(options.exempt, "utf8"));
  for (const revision of REVISIONS) {
    await fixture(revision);
  }
  for (const revision of REVISIONS) {
    await product(revision, exempt);
  }
} finally {
  await rm(results, { recursive: true, force: true });
}

const widths = { server: 9, revision: 11, group: 32, scenarios: 10, checks: 9, warnings: 8 };
const head = Object.fromEntries(Object.keys(widths).map((key) => [key, key]));
for (const line of [head, ...rows]) {
  console.log(Object.entries(widths).map(([key, width]) => line[key].padEnd(width)).join(" ").trimEnd());
}
warnings.forEach((warning) => console.log(`\nwarning ${warning}`));
faults.forEach((fault) => console.error(`\nFAILED ${fault}`));
console.log(`\n${faults.length === 0 ? "conforms" : `${faults.length} faults`}`);
process.exitCode = faults.length > 0 ? 1 : 0;
