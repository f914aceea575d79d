import { memoryText, showBytes } from '../kernel/memory.ts';
import type { KeyReport, StartReport } from './app-port.ts';
import { millions } from './commands/backbone.ts';
import { socketUrl } from './connection.ts';
import { shellWord, singleQuote } from './shell.ts';

/** What else a banner says. */
interface BannerContext {
  readonly readyMs: number;
  /** Where keys are kept. */
  readonly keyFile: string;
  /** The local chain that was started as well, if one was. */
  readonly chain: ChainContext | null;
}

interface ChainContext {
  readonly rpcUrl: string;
  readonly chainId: number;
  readonly anchor: string;
  readonly distributor: string;
  readonly token: string;
}

/** What is printed when the server is ready: where it is, the keys, and three examples that work as printed. */
export function banner(report: StartReport, context: BannerContext): string {
  const { backbone, database } = report;
  const lines = [
    '',
    `  Patchbay is ready after ${(context.readyMs / 1000).toFixed(1)} s`,
    '',
    `  GraphQL       ${report.graphqlUrl}`,
    `  Backbone      ${backbone.name} (${millions(backbone.parameters)} parameters, ${backbone.digest.slice(0, 12)})`,
    `  Memory        ${showBytes(report.memory.totalBytes)} at most: ${memoryText(report.memory)}`,
    `  Database      ${database.kind === 'embedded' ? `embedded Postgres in ${database.location}` : database.location}`,
    ...chainLines(context.chain),
    `  Operator key  ${describeKey(report.operatorKey)}`,
    `  Demo key      ${describeKey(report.demoKey)}`,
    `                ${keyNote(report, context.keyFile)}`,
    '',
    ...examples(report),
    '  Ctrl-C stops the server.',
    '',
  ];
  return `${lines.join('\n')}\n`;
}

function chainLines(chain: ChainContext | null): string[] {
  if (chain === null) return [];
  return [
    `  Chain         ${chain.rpcUrl}, id ${chain.chainId}, on this machine alone`,
    `                anchor       ${chain.anchor}`,
    `                distributor  ${chain.distributor}`,
    `                token        ${chain.token}`,
  ];
}

function describeKey(report: KeyReport): string {
  return report.kind === 'new' ? report.key : `${report.prefix}…`;
}

function keyNote(report: StartReport, keyFile: string): string {
  return report.demoKey.kind === 'new'
    ? `Shown in full only now; kept for the command line in ${keyFile}.`
    : `Kept in ${keyFile}; \`npx patchbay key demo\` prints it.`;
}

function examples(report: StartReport): string[] {
  const shellKey = report.demoKey.kind === 'new' ? report.demoKey.key : '$(npx patchbay key demo)';
  const authorization = `authorization: Bearer ${shellKey}`;
  // The address is spelled out: another port or data folder than the usual must not break a printed example.
  const keyFlag = report.demoKey.kind === 'new' ? ` --key ${report.demoKey.key}` : '';
  const flags = `${keyFlag} --url ${report.graphqlUrl}`;
  const query = JSON.stringify({
    query:
      '{ adapters(first: 10, includePublic: true) { edges { node { name latestVersion { number state } } } } }',
  });
  const lines = [
    '  Ask something:',
    `    curl -s ${report.graphqlUrl} -H 'content-type: application/json' -H ${doubleQuote(authorization)} -d ${singleQuote(query)}`,
    '',
  ];
  const { example } = report;
  if (example === null) return lines;
  return [
    ...lines,
    '  Upload an adapter:',
    `    npx patchbay adapter push ${shellWord(example.folder)} --name my-adapter --wait${flags}`,
    '',
    '  Stream an inference:',
    `    npx patchbay infer --adapter ${shellWord(example.adapter)} --prompt ${singleQuote(example.prompt)}${flags}`,
    '',
    '  The same from a program (run it in this folder):',
    ...streamingProgram(report.graphqlUrl, shellKey, example.adapter, example.prompt).map(
      (line) => `    ${line}`,
    ),
    '',
  ];
}

/** A node one-off that needs nothing but what is installed here. */
function streamingProgram(graphqlUrl: string, shellKey: string, adapter: string, prompt: string): string[] {
  const subscription =
    'subscription ($input: InferInput!) { infer(input: $input) { ... on InferChunk { text } ... on InferFinished { finishReason } } }';
  const input = JSON.stringify({ prompt, adapters: [{ adapter }] }).replace(
    '{',
    '{ idempotencyKey: crypto.randomUUID(), ',
  );
  const program = [
    'import { createClient } from "graphql-ws"; import { WebSocket } from "ws"; import crypto from "node:crypto";',
    `const client = createClient({ url: "${socketUrl(graphqlUrl)}", webSocketImpl: WebSocket, connectionParams: { authorization: "Bearer " + process.env.KEY } });`,
    `const input = ${input};`,
    `for await (const { data, errors } of client.iterate({ query: "${subscription}", variables: { input } })) console.log(JSON.stringify(data?.infer ?? errors));`,
    'await client.dispose();',
  ];
  return [`KEY=${doubleQuote(shellKey)} node --input-type=module -e ${singleQuote(program.join('\n'))}`]
    .join('\n')
    .split('\n');
}

function doubleQuote(text: string): string {
  return `"${text}"`;
}
