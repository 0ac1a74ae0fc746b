// The last 2.x of the TypeScript SDK, behind the interface of scenarios.mjs.

import { readFileSync } from "node:fs";

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const manifest = new URL("node_modules/@modelcontextprotocol/client/package.json", import.meta.url);

export const name = `TypeScript ${JSON.parse(readFileSync(manifest, "utf8")).version}`;
export const modern = true;

export const transports = {
  stdio: (server) => new StdioClientTransport({ ...server, stderr: "ignore" }),
  http: (url) => new StreamableHTTPClientTransport(new URL("/mcp", url)),
  sse: (url) => new SSEClientTransport(new URL("/sse", url)),
};

export async function open(transport, { answer, modern }) {
  const capabilities = answer ? { elicitation: { form: {} } } : {};
  const versionNegotiation = { mode: modern ? { pin: "2026-07-28" } : "legacy" };
  const client = new Client({ name: "scenarios", version: "0" }, { capabilities, versionNegotiation });
  if (answer) {
    client.setRequestHandler("elicitation/create", async ({ params }) => answer(params));
  }
  await client.connect(transport);
  return {
    revision: client.getNegotiatedProtocolVersion(),
    tools: async () => (await client.listTools()).tools,
    call: (tool, args, options) => client.callTool({ name: tool, arguments: args }, options),
    close: () => client.close(),
  };
}
