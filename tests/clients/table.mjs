// Prints what the scenarios told, one JSON object a line on stdin, as a table: client x transport x scenario.

import { text } from "node:stream/consumers";

const rows = (await text(process.stdin)).split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
const scenarios = [...new Set(rows.map((row) => row.scenario))];
const order = ["stdio", "/mcp", "/sse", "stdio 2026", "/mcp 2026"];
const ways = [...new Set(rows.map((row) => `${row.client}\t${row.transport}`))].sort((one, other) => {
  const [[oneClient, oneWay], [otherClient, otherWay]] = [one.split("\t"), other.split("\t")];
  // Clients stand in the order in which they ran, which is that of the rows.
  return oneClient === otherClient ? order.indexOf(oneWay) - order.indexOf(otherWay) : 0;
});
const cells = ways.map((way) => {
  const [client, transport] = way.split("\t");
  const own = rows.filter((row) => row.client === client && row.transport === transport);
  return [client, transport, ...scenarios.map((scenario) => own.find((row) => row.scenario === scenario)?.result ?? "-")];
});
const table = [["client", "transport", ...scenarios], ...cells];
const widths = table[0].map((_, column) => Math.max(...table.map((line) => line[column].length)));
table.forEach((line) => console.log(line.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd()));
for (const row of rows.filter((row) => row.result === "FAILED")) {
  console.log(`\nFAILED ${row.client}, ${row.transport}, ${row.scenario}: ${row.detail}`);
}
for (const why of new Set(rows.filter((row) => row.result === "skipped").map((row) => `${row.scenario}: ${row.detail}`))) {
  console.log(`\nskipped ${why}`);
}
