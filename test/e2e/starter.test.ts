import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { createTestDatabase, type TestDatabase } from '../kit/postgres.ts';
import { waitFor } from '../kit/wait.ts';
import { cli } from '../unit/cli/fake-io.ts';
import { graphql } from './client.ts';
import { type RunningServer, startServer } from './server.ts';

const STARTER = fileURLToPath(new URL('../../starter', import.meta.url));
/** Held-out cases per task through the right adapter, and through the wrong ones and the plain backbone. */
const OWN_CASES = 200;
const OTHER_CASES = 8;
/** More than a batch, so that none waits for a client; `fetch` keeps the connections. */
const CONCURRENCY = 48;
const MAX_TOKENS = 48;
/** What an answer may be longer than the longest right one: the rest of one that goes astray need not be computed. */
const SLACK = 4;
const PLAIN = 'plain backbone';

const caseSchema = z.object({ prompt: z.string(), answer: z.string() });
const answerSchema = z.object({
  generate: z.object({
    generation: z.object({ text: z.string() }).nullable(),
    userErrors: z.array(z.object({ code: z.string(), message: z.string() })),
  }),
});

const GENERATE = `mutation Generate($input: InferInput!) {
  generate(input: $input) { generation { text } userErrors { code message } }
}`;

let database: TestDatabase;
let dataDir: string;
let server: RunningServer;
const cases = new Map<string, readonly z.infer<typeof caseSchema>[]>();

beforeAll(async () => {
  for (const task of (await readdir(join(STARTER, 'adapters'))).sort()) {
    const text = await readFile(join(STARTER, 'eval', `${task}.jsonl`), 'utf8');
    cases.set(
      task,
      text
        .trim()
        .split('\n')
        .map((line) => caseSchema.parse(JSON.parse(line))),
    );
  }
  database = await createTestDatabase();
  dataDir = await mkdtemp(join(tmpdir(), 'patchbay-starter-'));
  server = await startServer({
    dataDir,
    env: {
      DATABASE_URL: database.adminUrl,
      PATCHBAY_SECRET: database.secret,
      // What answers are worth is of interest here, and not when they come: a busy machine must not have any refused.
      PATCHBAY_MAX_WAIT_PERCENT: '0',
      // All that is asked here has a receipt, which the last test looks at.
      PATCHBAY_PROOFS: 'on',
    },
  });
}, 120_000);
afterAll(async () => {
  await server.stop();
  await rm(dataDir, { recursive: true, force: true });
  await database.dispose();
});

interface Job {
  readonly adapter: string;
  readonly task: string;
  readonly index: number;
  readonly prompt: string;
  readonly answer: string;
  readonly maxTokens: number;
}

async function isRight(job: Job): Promise<boolean> {
  const { adapter, task, index, prompt, answer, maxTokens } = job;
  const choice = adapter === PLAIN ? { plainBackbone: true } : { adapters: [{ adapter }] };
  const input = { idempotencyKey: `${adapter}-${task}-${index}`, prompt, maxTokens, ...choice };
  const { generate } = await graphql(server.graphqlUrl, server.demoKey, GENERATE, { input }, answerSchema);
  expect(generate.userErrors).toEqual([]);
  return generate.generation?.text === answer;
}

test('every starter adapter answers its own task, and neither the backbone nor another adapter does', async () => {
  expect(cases.size).toBeGreaterThanOrEqual(5);
  const jobs: Job[] = [];
  for (const [task, all] of cases) {
    expect(all.length).toBeGreaterThanOrEqual(OWN_CASES);
    // No token is shorter than a character.
    const longest = Math.max(...all.map(({ answer }) => answer.length));
    const maxTokens = Math.min(MAX_TOKENS, longest + SLACK);
    for (const adapter of [PLAIN, ...cases.keys()]) {
      const count = adapter === task ? OWN_CASES : OTHER_CASES;
      all.slice(0, count).forEach((entry, index) => {
        jobs.push({ adapter, task, index, maxTokens, ...entry });
      });
    }
  }
  // Interleaved, so that every batch mixes all adapters and the plain backbone.
  jobs.sort((a, b) => a.index - b.index);
  const right = new Map<string, { right: number; total: number }>();
  let next = 0;
  const work = async (): Promise<void> => {
    for (let job = jobs[next++]; job !== undefined; job = jobs[next++]) {
      const key = `${job.adapter} on ${job.task}`;
      const score = right.get(key) ?? { right: 0, total: 0 };
      right.set(key, score);
      const correct = await isRight(job);
      score.total += 1;
      if (correct) score.right += 1;
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  const share = (adapter: string, task: string): number => {
    const score = right.get(`${adapter} on ${task}`);
    return score === undefined ? Number.NaN : score.right / score.total;
  };
  const table = [...cases.keys()].map((task) => ({
    task,
    ...Object.fromEntries(
      [PLAIN, ...cases.keys()].map((adapter) => [adapter, share(adapter, task).toFixed(2)]),
    ),
  }));
  console.table(table);
  for (const task of cases.keys()) {
    const own = share(task, task);
    expect(own, `${task} on its own task`).toBeGreaterThanOrEqual(0.9);
    expect(share(PLAIN, task), `the plain backbone on ${task}`).toBeLessThan(0.2);
    for (const other of cases.keys()) {
      if (other !== task) expect(share(other, task), `${other} on ${task}`).toBeLessThan(own - 0.3);
    }
  }
}, 600_000);

test('what a tenant’s earlier prompt began with is metered as cached, and changes no answer', async () => {
  const schema = z.object({
    generate: z.object({
      generation: z.object({
        text: z.string(),
        usage: z.object({ promptTokens: z.number(), cachedPromptTokens: z.number() }),
      }),
    }),
  });
  const query = `mutation Generate($input: InferInput!) {
    generate(input: $input) { generation { text usage { promptTokens cachedPromptTokens } } }
  }`;
  const prompt = [...cases.values()].map(([first]) => first?.prompt ?? '').join(' ');
  const answers: z.infer<typeof schema>['generate']['generation'][] = [];
  for (const turn of [1, 2]) {
    const input = { idempotencyKey: `prefix-${turn}`, prompt, maxTokens: 8, plainBackbone: true };
    const { generate } = await graphql(server.graphqlUrl, server.demoKey, query, { input }, schema);
    answers.push(generate.generation);
  }
  const [first, second] = answers;
  const promptTokens = first?.usage.promptTokens ?? 0;
  const cached = 32 * Math.floor((promptTokens - 1) / 32);
  expect(cached).toBeGreaterThan(0);
  expect(first?.usage.cachedPromptTokens).toBe(0);
  expect(second).toEqual({ text: first?.text, usage: { promptTokens, cachedPromptTokens: cached } });
  const records = await database.admin<{ cached_prompt_tokens: number }>(
    'SELECT cached_prompt_tokens FROM usage_record WHERE cached_prompt_tokens > 0',
  );
  expect(records.map((record) => record.cached_prompt_tokens)).toContain(cached);
}, 60_000);

test('no task is won by a constant answer', () => {
  for (const [task, all] of cases) {
    const counts = new Map<string, number>();
    for (const { answer } of all) counts.set(answer, (counts.get(answer) ?? 0) + 1);
    expect(Math.max(...counts.values()) / all.length, task).toBeLessThanOrEqual(0.6);
  }
});

test('everything that was asked has a receipt in the log, by numbers without gaps, and one verifies without the server', async () => {
  const count = async (from: string): Promise<number> => {
    const [row] = await database.admin<{ count: number }>(`SELECT count(*)::integer AS count FROM ${from}`);
    return row?.count ?? 0;
  };
  const records = await count('usage_record');
  expect(records).toBeGreaterThan(OWN_CASES);
  await waitFor(async () => (await count('log_leaf')) === records, { what: 'all receipts in the log' });
  expect(await count('receipt')).toBe(records);
  expect(await count('receipt_pending')).toBe(0);
  expect(await count('receipt_batch')).toBeLessThan(records);
  // Whatever was numbered was numbered from one on.
  expect(
    await database.admin(
      `SELECT kind, subject_id FROM receipt_number GROUP BY kind, subject_id, lane
       HAVING count(*) <> max(number) OR min(number) <> 1`,
    ),
  ).toEqual([]);

  const receiptSchema = z.object({
    receipts: z.object({
      edges: z.array(z.object({ node: z.object({ receipt: z.object({ document: z.string() }) }) })),
    }),
  });
  const query = '{ receipts(first: 20) { edges { node { receipt { document } } } } }';
  const { receipts } = await graphql(server.graphqlUrl, server.demoKey, query, {}, receiptSchema);
  const documents = receipts.edges.map(({ node }) => node.receipt.document);
  const withAdapter = documents.find((document) => document.includes('"part.0.counter"')) ?? '';
  const [receipt, keys] = [join(dataDir, 'receipt.json'), join(dataDir, 'keys.json')];
  await writeFile(receipt, withAdapter);
  await writeFile(keys, await (await fetch(new URL('/log/v1/keys', server.graphqlUrl))).text());
  const verified = await cli(['verify', receipt, '--keys', keys]);
  expect(verified.out).toMatch(/✓ inclusion .*\n✓ head /);
  expect(verified.code).toBe(0);
  await writeFile(receipt, withAdapter.replace(/("name":"completionTokens".*?"value":")(\d+)/, '$19$2'));
  const forged = await cli(['verify', receipt, '--keys', keys]);
  expect(forged.out).toContain('✗ opened');
  expect(forged.code).toBe(1);
}, 60_000);

test('a request is run again on the weights that its receipt names', async () => {
  const task = 'reverse';
  const receipt = join(dataDir, 'again.json');
  const disclosure = join(dataDir, 'disclosure.json');
  const keys = join(dataDir, 'keys-again.json');
  const prompt = cases.get(task)?.[0]?.prompt ?? '';
  const connection = ['--url', server.graphqlUrl, '--key', server.demoKey];
  const asked = await cli([
    ...['infer', ...connection, '--adapter', task, '--prompt', prompt, '--max-tokens', '48'],
    ...['--disclosure', disclosure],
  ]);
  expect([asked.code, asked.out.trim()]).toEqual([0, cases.get(task)?.[0]?.answer]);
  await writeFile(keys, await (await fetch(new URL('/log/v1/keys', server.graphqlUrl))).text());
  // Asked for by its id, because the last event does not wait for a signature on a busy machine.
  const { id } = JSON.parse(await readFile(disclosure, 'utf8'));
  const receiptSchema = z.object({ receipt: z.object({ document: z.string() }).nullable() });
  const query = 'query ($id: UUID!) { receipt(requestId: $id) { document } }';
  await waitFor(
    async () => {
      const found = await graphql(server.graphqlUrl, server.demoKey, query, { id }, receiptSchema);
      if (found.receipt !== null) await writeFile(receipt, found.receipt.document);
      return found.receipt !== null;
    },
    { what: 'the receipt' },
  );
  const replay = (adapter: string) =>
    cli([
      ...['verify', receipt, '--keys', keys, '--replay', disclosure],
      ...['--backbone', join(STARTER, 'backbone'), '--adapter', join(STARTER, 'adapters', adapter)],
    ]);
  const right = await replay(task);
  expect(right.out).toMatch(/^✓ replay\.tokens +all \d+ tokens are those of this run$/m);
  expect(right.code).toBe(0);
  const wrong = await replay('sort');
  expect(wrong.out).toMatch(/^✗ replay\.adapter\.0 /m);
  expect(wrong.code).toBe(1);
}, 60_000);
