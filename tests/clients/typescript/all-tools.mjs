// Drives ssh-mcp with the official TypeScript SDK 1.x over stdio, streamable HTTP and HTTP+SSE: every
// tool with a success and an error, calls at the same time, cancellation, and sessions across transports.
//
// The SDK itself validates each structuredContent, that of an error too, against the tool's outputSchema.
//
//   node all-tools.mjs --address USER@HOST:PORT --key FILE --command ssh-mcp-stdio --url http://127.0.0.1:8000
//
// Without --command or without --url only the other transports are tried.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport, getDefaultEnvironment } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const { values: options } = parseArgs({
  options: {
    address: { type: "string" },
    key: { type: "string" },
    command: { type: "string" },
    url: { type: "string" },
  },
});
assert(options.address && options.key && (options.command || options.url), "see the head of this file");

/** An answer behind a slow call that takes longer than this has waited for it. */
const AT_ONCE_MS = 1_000;
/** How long a cancelled remote process may take to end. */
const GONE_MS = 3_000;

/** Keys are read from allowed directories only. */
const serverEnv = { ...getDefaultEnvironment(), SSH_KEY_ROOTS: dirname(options.key) };

const TRANSPORTS = {
  stdio: options.command && (() => new StdioClientTransport({ command: options.command, env: serverEnv, stderr: "ignore" })),
  "/mcp": options.url && (() => new StreamableHTTPClientTransport(new URL("/mcp", options.url))),
  "/sse": options.url && (() => new SSEClientTransport(new URL("/sse", options.url))),
};

const rows = [];

/** Runs one check and keeps its row; what it returns is shown, or why it failed. */
async function check(transport, name, body) {
  const began = performance.now();
  let [result, detail] = ["ok", ""];
  try {
    detail = (await body()) ?? "";
  } catch (error) {
    [result, detail] = ["FAILED", String(error?.message ?? error)];
  }
  const ms = Math.round(performance.now() - began);
  rows.push({ transport, check: name, result, ms, detail: detail.replaceAll(/\s+/g, " ").slice(0, 160) });
}

/** Calls a tool and gives the one JSON object of its answer, after comparing the two places where it stands. */
async function call(client, name, args, requestOptions) {
  const result = await client.callTool({ name, arguments: args }, undefined, requestOptions);
  assert.equal(result.content.length, 1, "one block");
  assert.equal(result.content[0].type, "text");
  // As text: the order of the fields has to be the same too.
  assert.equal(JSON.stringify(result.structuredContent), JSON.stringify(JSON.parse(result.content[0].text)));
  return { isError: result.isError === true, answer: result.structuredContent };
}

async function succeed(client, name, args) {
  const { isError, answer } = await call(client, name, args);
  assert(!isError, `${name}: ${JSON.stringify(answer)}`);
  return answer;
}

/** A failure with this code, whose hint names what helps. */
async function fail(client, name, args, code, hint) {
  const { isError, answer } = await call(client, name, args);
  assert(isError, `${name} did not fail: ${JSON.stringify(answer)}`);
  assert.equal(answer.code, code, JSON.stringify(answer));
  assert.equal(typeof answer.retryable, "boolean");
  assert(answer.message.length > 0, "a message");
  assert.match(answer.hint, hint);
  return `${code}: ${answer.hint}`;
}

/** Waits until the condition holds, and gives the milliseconds that it took. */
async function until(what, bound, condition) {
  const began = performance.now();
  while (!(await condition())) {
    assert(performance.now() - began < bound, `not within ${bound} ms: ${what}`);
    await sleep(50);
  }
  return Math.round(performance.now() - began);
}

/** A listener on a free port of 127.0.0.1. */
async function listener() {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

/** A port that nobody listens on. */
async function closedPort() {
  const server = await listener();
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** The first bytes that a TCP server sends. */
async function greeting(address) {
  const [host, port] = address.split(":");
  const socket = connect(Number(port), host);
  try {
    const [data] = await once(socket, "data", { signal: AbortSignal.timeout(5_000) });
    return data.toString();
  } finally {
    socket.destroy();
  }
}

async function opened(makeTransport) {
  const client = new Client({ name: "all-tools", version: "0" });
  await client.connect(makeTransport());
  return client;
}

function connectArguments(more) {
  return { address: options.address, key_path: options.key, ...more };
}

async function everyTool(client, transport) {
  const tried = (name, body) => check(transport, name, body);
  const [username, place] = options.address.split("@");
  const sshPort = Number(place.split(":")[1] ?? 22);
  const nowhere = randomUUID();
  let session_id;

  await tried("tools/list", async () => {
    const { tools } = await client.listTools();
    assert.equal(tools.length, 10);
    for (const tool of tools) {
      assert.equal(tool.outputSchema?.type, "object", `${tool.name} has a schema to validate answers with`);
    }
    return `${JSON.stringify({ tools }).length} characters`;
  });

  await tried("ssh_connect", async () => {
    const answer = await succeed(client, "ssh_connect", connectArguments({ name: `all-tools ${transport}` }));
    assert.equal(answer.authenticated, true);
    assert.equal(answer.username, username);
    ({ session_id } = answer);
    return answer.server_version;
  });
  await tried("ssh_connect, error", async () => {
    const args = { ...connectArguments({ max_retries: 0 }), address: `${username}@127.0.0.1:${await closedPort()}` };
    return fail(client, "ssh_connect", args, "connect_refused", /port|sshd|listen/i);
  });

  await tried("ssh_execute", async () => {
    const command = "cat; echo warning >&2; exit 3";
    const answer = await succeed(client, "ssh_execute", { session_id, command, stdin: "Grüße\n" });
    const { status, exit_code, stdout, stderr, stdout_bytes } = answer;
    const wanted = { status: "completed", exit_code: 3, stdout: "Grüße\n", stderr: "warning\n", stdout_bytes: 8 };
    assert.deepEqual({ status, exit_code, stdout, stderr, stdout_bytes }, wanted);
  });
  await tried("ssh_execute, error", () =>
    fail(client, "ssh_execute", { session_id, command: "pwd", cwd: "/no/such" }, "no_such_directory", /cwd|director/i),
  );

  let command_id;
  await tried("ssh_execute_async", async () => {
    const answer = await succeed(client, "ssh_execute_async", { session_id, command: "printf early; sleep 1" });
    ({ command_id } = answer);
    return answer.message;
  });
  await tried("ssh_execute_async, error", () =>
    fail(client, "ssh_execute_async", { session_id, cmd: "true" }, "unknown_argument", /command/),
  );

  await tried("ssh_list_commands", async () => {
    const answer = await succeed(client, "ssh_list_commands", { session_id, status: "running" });
    assert.deepEqual(answer.commands.map((command) => command.command_id), [command_id]);
  });
  await tried("ssh_list_commands, error", () =>
    fail(client, "ssh_list_commands", { session_id, status: "done" }, "invalid_argument", /completed/),
  );

  await tried("ssh_get_command_output", async () => {
    const answer = await succeed(client, "ssh_get_command_output", { command_id, wait: true });
    const { status, exit_code, stdout } = answer;
    assert.deepEqual({ status, exit_code, stdout }, { status: "completed", exit_code: 0, stdout: "early" });
  });
  await tried("ssh_get_command_output, error", () =>
    fail(client, "ssh_get_command_output", { command_id: nowhere }, "command_not_found", /ssh_list_commands/),
  );

  await tried("ssh_cancel_command", async () => {
    const started = await succeed(client, "ssh_execute_async", { session_id, command: "printf early; sleep 300" });
    const running = { command_id: started.command_id };
    await until("early output", 3_000, async () => {
      return (await succeed(client, "ssh_get_command_output", running)).stdout === "early";
    });
    const answer = await succeed(client, "ssh_cancel_command", running);
    const { cancelled, status, stdout } = answer;
    assert.deepEqual({ cancelled, status, stdout }, { cancelled: true, status: "cancelled", stdout: "early" });
    return answer.message;
  });
  await tried("ssh_cancel_command, error", () =>
    fail(client, "ssh_cancel_command", { command_id: nowhere }, "command_not_found", /ssh_list_commands/),
  );

  await tried("ssh_forward", async () => {
    const to = { remote_address: "127.0.0.1", remote_port: sshPort };
    const answer = await succeed(client, "ssh_forward", { session_id, local_port: 0, ...to });
    assert.match(await greeting(answer.local_address), /^SSH-2\.0-/);
    return `${answer.local_address} -> ${answer.remote_address}`;
  });
  await tried("ssh_forward, error", async () => {
    const taken = await listener();
    try {
      const args = { session_id, local_port: taken.address().port, remote_address: "127.0.0.1", remote_port: 1 };
      return await fail(client, "ssh_forward", args, "port_in_use", /local_port/);
    } finally {
      taken.close();
    }
  });

  await tried("ssh_list_sessions", async () => {
    const { sessions } = await succeed(client, "ssh_list_sessions", {});
    const own = sessions.find((session) => session.session_id === session_id);
    assert.equal(own?.forwards.length, 1);
    assert.equal(own.healthy, true);
  });
  await tried("ssh_list_sessions, error", () =>
    fail(client, "ssh_list_sessions", { agent: "me" }, "unknown_argument", /agent_id/),
  );

  await tried("ssh_list_hosts", async () => {
    const { count, hosts } = await succeed(client, "ssh_list_hosts", { filter: "no such host" });
    assert.equal(count, 0);
    assert.deepEqual(hosts, []);
  });
  await tried("ssh_list_hosts, error", () =>
    fail(client, "ssh_list_hosts", { host: "web" }, "unknown_argument", /filter/),
  );

  await tried("two at once", () => twoAtOnce(client, session_id));
  await tried("cancelled by the client", () => abort(client, session_id));

  await tried("ssh_disconnect", async () => {
    const answer = await succeed(client, "ssh_disconnect", { session_id });
    assert.equal(answer.forwards_closed, 1);
  });
  await tried("ssh_disconnect, error", () =>
    fail(client, "ssh_disconnect", { session_id: nowhere }, "session_not_found", /ssh_list_sessions|ssh_connect/),
  );
}

/** A ping and a short command are not held up by a slow command on the same connection. */
async function twoAtOnce(client, session_id) {
  let slowEnded = false;
  const began = performance.now();
  const slow = succeed(client, "ssh_execute", { session_id, command: "sleep 3" }).finally(() => (slowEnded = true));
  await sleep(200);
  const timed = async (request) => {
    const sent = performance.now();
    await request;
    return Math.round(performance.now() - sent);
  };
  const [ping, echo] = await Promise.all([
    timed(client.ping()),
    timed(succeed(client, "ssh_execute", { session_id, command: "echo hello" })),
  ]);
  assert(!slowEnded && ping < AT_ONCE_MS && echo < AT_ONCE_MS, `ping ${ping} ms, echo ${echo} ms`);
  assert.equal((await slow).exit_code, 0);
  return `ping ${ping} ms, echo ${echo} ms, sleep 3 ${Math.round(performance.now() - began)} ms`;
}

/** What the client gives up ends on the remote host too. */
async function abort(client, session_id) {
  const { stdout: user } = await succeed(client, "ssh_execute", { session_id, command: "id -u" });
  if (user.trim() === "0") {
    return "not tried: OpenSSH does not pass on signals to root's commands";
  }
  // A duration that nobody else sleeps, in a pattern that does not match itself.
  const fraction = String(Date.now()).slice(-9);
  const running = async () => {
    const search = { session_id, command: `pgrep -f 'sleep 120[.]${fraction}' | wc -l` };
    return Number((await succeed(client, "ssh_execute", search)).stdout) > 0;
  };
  const controller = new AbortController();
  const command = `exec sleep 120.${fraction}`;
  const given_up = call(client, "ssh_execute", { session_id, command }, { signal: controller.signal });
  const outcome = given_up.then(
    () => "answered",
    (error) => error,
  );
  await until("the command runs", 5_000, running);
  controller.abort("no longer wanted");
  assert.match(String(await outcome), /no longer wanted/);
  const ms = await until("the remote process is gone", GONE_MS, async () => !(await running()));
  return `remote process gone after ${ms} ms`;
}

/** One server: what one transport opened, the other lists. */
async function acrossTransports() {
  const [sse, mcp] = [await opened(TRANSPORTS["/sse"]), await opened(TRANSPORTS["/mcp"])];
  try {
    for (const [from, to, title] of [[sse, mcp, "opened on /sse, listed on /mcp"], [mcp, sse, "the other way round"]]) {
      await check("both", title, async () => {
        const { session_id } = await succeed(from, "ssh_connect", connectArguments());
        const { sessions } = await succeed(to, "ssh_list_sessions", {});
        assert(sessions.some((session) => session.session_id === session_id));
        await succeed(to, "ssh_disconnect", { session_id });
      });
    }
  } finally {
    await Promise.all([sse.close(), mcp.close()]);
  }
}

for (const [name, makeTransport] of Object.entries(TRANSPORTS)) {
  if (!makeTransport) {
    continue;
  }
  let client;
  await check(name, "initialize", async () => {
    client = await opened(makeTransport);
    return client.getServerVersion().version;
  });
  if (client) {
    await everyTool(client, name);
    await check(name, "close", () => client.close());
  }
}
if (options.url) {
  await acrossTransports();
}

const widths = { transport: 9, check: 30, result: 6, ms: 6 };
const line = (row) =>
  `${row.transport.padEnd(widths.transport)} ${row.check.padEnd(widths.check)} ${row.result.padEnd(widths.result)} ` +
  `${String(row.ms).padStart(widths.ms)}  ${row.detail}`;
console.log(line({ transport: "transport", check: "check", result: "result", ms: "ms", detail: "detail" }));
rows.forEach((row) => console.log(line(row)));
const failed = rows.filter((row) => row.result !== "ok").length;
console.log(`\n${rows.length} checks, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
