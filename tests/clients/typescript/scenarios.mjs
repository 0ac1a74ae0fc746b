// Drives ssh-mcp with one official TypeScript SDK over every transport that it has, and in both eras of the protocol:
// connect, execute, progress, cancel, elicitation, a one-time code, calls at the same time, and a connection that is lost.
//
//   node scenarios.mjs --sdk 1|2 --address USER@HOST:PORT --key FILE --stdio ssh-mcp-stdio --http ssh-mcp --url URL
//     --code FILE [--ask]
//
// FILE of --code is what examples/one_time_code prints. Prints one JSON object a line: {client, transport, scenario, result, ms, detail}. With --ask the server has the setting
// SSH_HOST_KEY_POLICY, and is started anew for the scenario that needs it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    sdk: { type: "string" },
    address: { type: "string" },
    key: { type: "string" },
    stdio: { type: "string" },
    http: { type: "string" },
    url: { type: "string" },
    code: { type: "string" },
    ask: { type: "boolean", default: false },
  },
});
assert(options.sdk && options.address && options.key && options.stdio && options.http && options.url && options.code, "see the head");
const sdk = await import(`./sdk${options.sdk}.mjs`);

/** How long anything may take. No scenario needs a tenth of it. */
const BOUND_MS = 20_000;
const WAYS = [
  { transport: "stdio", kind: "stdio" },
  { transport: "/mcp", kind: "http" },
  { transport: "/sse", kind: "sse" },
  { transport: "stdio 2026", kind: "stdio", modern: true },
  { transport: "/mcp 2026", kind: "http", modern: true },
].filter((way) => !way.modern || sdk.modern);

const home = mkdtempSync(join(tmpdir(), "scenarios-"));
let failures = 0;

/** Skips the rest of a scenario. */
class Skipped extends Error {}

async function scenario(transport, name, body) {
  const began = performance.now();
  let [result, detail] = ["ok", ""];
  try {
    detail = (await within(body(), name)) ?? "";
  } catch (error) {
    [result, detail] = [error instanceof Skipped ? "skipped" : "FAILED", String(error?.message ?? error)];
  }
  failures += result === "FAILED" ? 1 : 0;
  const ms = Math.round(performance.now() - began);
  console.log(JSON.stringify({ client: sdk.name, transport, scenario: name, result, ms, detail: detail.slice(0, 300) }));
}

async function within(promise, what) {
  const stop = new AbortController();
  const late = sleep(BOUND_MS, undefined, { signal: stop.signal }).then(() => assert.fail(`not within the bound: ${what}`));
  late.catch(() => {});
  return Promise.race([promise, late]).finally(() => stop.abort());
}

async function until(what, condition) {
  const end = performance.now() + BOUND_MS / 2;
  while (!(await condition())) {
    assert(performance.now() < end, `not in time: ${what}`);
    await sleep(50);
  }
}

function connecting(way, to, more = {}) {
  return sdk.open(sdk.transports[way.kind](to), { modern: way.modern, ...more });
}

async function called(client, tool, args, requestOptions) {
  const { structuredContent, isError } = await client.call(tool, args, requestOptions);
  return { answer: structuredContent, isError: isError === true };
}

async function succeed(client, tool, args, requestOptions) {
  const { answer, isError } = await called(client, tool, args, requestOptions);
  assert(!isError, `${tool}: ${JSON.stringify(answer)}`);
  return answer;
}

/** Keys are read from allowed directories only. */
const KEYS = { SSH_KEY_ROOTS: dirname(options.key) };
const login = { address: options.address, key_path: options.key, max_retries: 0 };

/** The server's end of a way: its address, or how to start it. */
function server(way, url = options.url, env = {}) {
  return way.kind === "stdio" ? stdioServer(env) : url;
}

/** A server on stdio that writes its process id into a file first. */
function stdioServer(env) {
  const pidFile = join(home, randomUUID());
  const args = ["-c", 'echo $$ >"$1"; exec "$2"', "sh", pidFile, options.stdio];
  return { command: "/bin/sh", args, env: { PATH: process.env.PATH, HOME: home, ...KEYS, ...env }, pidFile };
}

async function free() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  await once(listener, "close");
  return port;
}

/** Passes on what goes between clients and the HTTP server, until it drops it all. */
async function proxy() {
  const sockets = new Set();
  const theirs = new URL(options.url).host;
  const listener = createServer((socket) => {
    const target = connect(Number(new URL(options.url).port), "127.0.0.1");
    for (const one of [socket, target]) {
      sockets.add(one);
      one.on("error", () => {});
      one.on("close", () => sockets.delete(one));
    }
    // The server refuses a Host that is not its own. Both have five digits, so no length changes.
    socket.on("data", (data) => target.write(data.toString("latin1").replaceAll(ours, theirs), "latin1"));
    socket.on("end", () => target.end());
    target.pipe(socket);
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const ours = `127.0.0.1:${listener.address().port}`;
  assert.equal(ours.length, theirs.length);
  return {
    url: `http://${ours}`,
    drop() {
      listener.close();
      sockets.forEach((socket) => socket.resetAndDestroy());
    },
  };
}

async function execute(client, session_id) {
  const args = { session_id, command: "cat; echo warning >&2; exit 3", stdin: "Grüße\n" };
  const { status, exit_code, stdout, stderr } = await succeed(client, "ssh_execute", args);
  const wanted = { status: "completed", exit_code: 3, stdout: "Grüße\n", stderr: "warning\n" };
  assert.deepEqual({ status, exit_code, stdout, stderr }, wanted);
}

/** The command ends when its progress has been seen, so without progress there is no answer. */
async function progress(client, session_id) {
  const flag = `/tmp/scenarios-${randomUUID()}`;
  const seen = [];
  const command = `echo first line; until [ -e ${flag} ]; do sleep 0.05; done; rm ${flag}`;
  const onprogress = async ({ message }) => {
    seen.push(message);
    if (message?.includes("first line") && seen.length === 1) {
      await succeed(client, "ssh_execute", { session_id, command: `touch ${flag}` });
    }
  };
  const answer = await succeed(client, "ssh_execute", { session_id, command, timeout_secs: 15 }, { onprogress });
  assert.equal(answer.exit_code, 0, JSON.stringify(answer));
  return `${seen.length} notifications`;
}

/** What the client gives up ends on the remote host too. */
async function cancel(client, session_id) {
  const mark = `120.${String(Date.now()).slice(-9)}${process.pid}`;
  // The class keeps the pattern from matching itself.
  const search = { session_id, command: `pgrep -f 'sleep ${mark.replace(".", "[.]")}' | wc -l` };
  const running = async () => Number((await succeed(client, "ssh_execute", search)).stdout) > 0;
  const controller = new AbortController();
  const call = called(client, "ssh_execute", { session_id, command: `exec sleep ${mark}` }, { signal: controller.signal });
  const outcome = call.then(() => "answered", (error) => error);
  await until("the command runs", running);
  controller.abort("no longer wanted");
  assert.notEqual(await outcome, "answered");
  await until("the remote process is gone", async () => !(await running()));
}

/** Each command waits for the next one: they end only if all run at the same time. */
async function parallel(client, session_id) {
  const folder = `/tmp/scenarios-${randomUUID()}`;
  await succeed(client, "ssh_execute", { session_id, command: `mkdir ${folder}` });
  const one = (n) => `touch ${folder}/${n}; until [ -e ${folder}/${(n + 1) % 8} ]; do sleep 0.05; done; echo ${n}`;
  const calls = Array.from({ length: 8 }, (_, n) => ({ session_id, command: one(n), timeout_secs: 15 }));
  const answers = await Promise.all(calls.map((args) => succeed(client, "ssh_execute", args)));
  assert.deepEqual(answers.map(({ stdout }) => stdout), Array.from({ length: 8 }, (_, n) => `${n}\n`));
  await succeed(client, "ssh_execute", { session_id, command: `rm -r ${folder}` });
}

/** The connection is lost while a command runs. The call ends, the command has run once, and work goes on. */
async function dropped(way) {
  const between = way.kind === "stdio" ? undefined : await proxy();
  const to = server(way, between?.url);
  const client = await connecting(way, to);
  const { session_id } = await succeed(client, "ssh_connect", login);
  const file = `/tmp/scenarios-${randomUUID()}`;
  const command = `echo ran >>${file}; sleep 300`;
  const lost = called(client, "ssh_execute", { session_id, command }, { timeout: 5_000 }).then(
    () => assert.fail("answered"),
    (error) => String(error?.message ?? error),
  );
  const ran = async (session_id, client) =>
    (await succeed(client, "ssh_execute", { session_id, command: `cat ${file} 2>/dev/null || true` })).stdout;
  await until("the command runs", async () => (await ran(session_id, client)) === "ran\n");
  if (between) {
    between.drop();
  } else {
    process.kill(Number(readFileSync(to.pidFile, "utf8")), "SIGKILL");
  }
  const error = await lost;
  // A client has nothing to say over a connection that is gone.
  await Promise.race([client.close().catch(() => {}), sleep(1_000)]);
  const again = await connecting(way, server(way));
  try {
    // Sessions belong to the server: over HTTP it is still there.
    const kept = between ? session_id : (await succeed(again, "ssh_connect", login)).session_id;
    assert.equal(await ran(kept, again), "ran\n", "it ran once");
    await succeed(again, "ssh_execute", { session_id: kept, command: `rm ${file}` });
    await succeed(again, "ssh_disconnect", { session_id: kept });
  } finally {
    await again.close();
  }
  return error;
}

/** The user is asked about an unknown host, says no, and then yes. */
async function elicitation(way) {
  if (!options.ask) {
    throw new Skipped("the server has no setting SSH_HOST_KEY_POLICY");
  }
  const strange = mkdtempSync(join(home, "ask-"));
  const env = { PATH: process.env.PATH, HOME: strange, ...KEYS, SSH_HOST_KEY_POLICY: "ask" };
  const port = await free();
  const start = () => spawn(options.http, { env: { ...env, MCP_PORT: String(port) }, stdio: "ignore" });
  const http = way.kind === "stdio" ? undefined : start();
  try {
    if (http) {
      await until("the server listens", () => new Promise((resolve) => {
        const socket = connect(port, "127.0.0.1", () => resolve(true));
        socket.on("error", () => resolve(false)).on("connect", () => socket.destroy());
      }));
    }
    let asked = 0;
    let trust = false;
    const answer = (params) => {
      asked += 1;
      const fields = Object.keys(params.requestedSchema.properties).map((field) => [field, true]);
      return trust ? { action: "accept", content: Object.fromEntries(fields) } : { action: "decline" };
    };
    const client = await connecting(way, server(way, `http://127.0.0.1:${port}`, env), { answer });
    try {
      const refused = await called(client, "ssh_connect", login);
      assert(refused.isError && asked === 1, `asked ${asked} times: ${JSON.stringify(refused.answer)}`);
      trust = true;
      const { session_id } = await succeed(client, "ssh_connect", login);
      assert.equal(asked, 2);
      await execute(client, session_id);
      return `declined: ${refused.answer.code}`;
    } finally {
      await client.close();
    }
  } finally {
    if (http) {
      http.kill();
      await once(http, "exit");
    }
  }
}

/** A host asks for a password and a one-time code: the code is the user's, who types a wrong one first. */
async function oneTimeCode(way) {
  const { address, password, code } = JSON.parse(readFileSync(options.code, "utf8"));
  const asked = [];
  let typed = "000000x";
  const answer = (params) => {
    asked.push(params);
    return { action: "accept", content: { answer_1: typed } };
  };
  const client = await connecting(way, server(way), { answer });
  try {
    const to = { address, password, max_retries: 0 };
    const wrong = await called(client, "ssh_connect", to);
    assert(wrong.isError && wrong.answer.code === "auth_failed", JSON.stringify(wrong.answer));
    typed = code;
    const opened = await succeed(client, "ssh_connect", to);
    assert.equal(opened.auth_method, "keyboard-interactive");
    assert.equal(asked.length, 2);
    assert(asked.every(({ message }) => message.includes("> Verification code:")), JSON.stringify(asked));
    assert(!JSON.stringify(opened).includes(code), "the answer does not repeat it");
    await execute(client, opened.session_id);
    await succeed(client, "ssh_disconnect", { session_id: opened.session_id });
    return `a wrong one: ${wrong.answer.why}`;
  } finally {
    await client.close();
  }
}

async function everything(way) {
  let client, session_id;
  await scenario(way.transport, "connect", async () => {
    client = await connecting(way, server(way));
    assert((await client.tools()).length >= 9);
    assert(!way.modern || client.revision === "2026-07-28", client.revision);
    ({ session_id } = await succeed(client, "ssh_connect", login));
    return client.revision;
  });
  if (session_id) {
    await scenario(way.transport, "execute", () => execute(client, session_id));
    await scenario(way.transport, "progress", () => progress(client, session_id));
    await scenario(way.transport, "cancel", () => cancel(client, session_id));
    await scenario(way.transport, "parallel", () => parallel(client, session_id));
  }
  await scenario(way.transport, "elicitation", () => elicitation(way));
  await scenario(way.transport, "one-time code", () => oneTimeCode(way));
  await scenario(way.transport, "dropped", () => dropped(way));
  if (session_id) {
    await scenario(way.transport, "close", async () => {
      await succeed(client, "ssh_disconnect", { session_id });
      await client.close();
    });
  }
}

try {
  await Promise.all(WAYS.map(everything));
} finally {
  rmSync(home, { recursive: true, force: true });
}
process.exit(failures > 0 ? 1 : 0);
