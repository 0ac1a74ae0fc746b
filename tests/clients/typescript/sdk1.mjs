// The last 1.x of the TypeScript SDK, behind the interface of scenarios.mjs.

import { readFileSync } from "node:fs";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const manifest = new URL("node_modules/@modelcontextprotocol/sdk/package.json", import.meta.url);

export const name = `TypeScript ${JSON.parse(readFileSync(manifest, "utf8")).version}`;
export const modern = false;

export const transports = {
  stdio: (server) => new StdioClientTransport({ ...server, stderr: "ignore" }),
  http: (url) => new StreamableHTTPClientTransport(new URL("/mcp", url)),
  sse: (url) => new SSEClientTransport(new URL("/sse", url)),
};

export async function open(transport, { answer }) {
  const capabilities = answer ? { elicitation: {} } : {};
  const client = new Client({ name: "scenarios", version: "0" }, { capabilities });
  if (answer) {
    client.setRequestHandler(ElicitRequestSchema, async ({ params }) => answer(params));
  }
  await client.connect(transport);
  return {
    // The SDK tells only the HTTP transport.
    revision: transport.protocolVersion ?? "",
    tools: async () => (await client.listTools()).tools,
    call: (tool, args, options) => client.callTool({ name: tool, arguments: args }, undefined, options),
    close: () => client.close(),
  };
}
