import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { importBackbone } from '../../src/backbone/import.ts';
import { synthPrompt } from '../reference/synth.ts';
import { type CliResult, cli } from '../unit/cli/fake-io.ts';
import type { Json } from '../unit/verifier/vectors.ts';
import { GOLDEN_ROOT, temporaryFolder } from './kit.ts';
import {
  adapterFolder,
  type Deployment,
  deploy,
  disclosureOf,
  FOLDER,
  filesOf,
  receiptOf,
  type Served,
  serve,
} from './replay-kit.ts';

const BEGINNING = synthPrompt('replay-beginning', 40);
const maxTokens = 10;

let folder: string;
let deployment: Deployment;
let reused: Served;
let adapted: Served;
let blended: Served;
let stopped: Served;
let cancelled: Served;

/** One engine serves all of it in one batch, with chunks of prompts and beginnings that are reused. */
beforeAll(async () => {
  folder = await temporaryFolder();
  deployment = await deploy(['all_r8', 'rslora_r24', 'qv_r3']);
  const { digestOf } = deployment;
  const one = [{ digest: digestOf('all_r8'), weight: 1 }];
  const stop = { maxTokens };
  await serve(deployment, { promptIds: BEGINNING, adapters: one, stop });
  const first = await serve(deployment, { promptIds: synthPrompt('replay-stop', 70), stop });
  const last = first.outputIds[4] ?? 0;
  [reused, adapted, blended, stopped, cancelled] = await Promise.all([
    serve(deployment, { promptIds: [...BEGINNING, 5, 6, 7], adapters: one, stop }),
    serve(deployment, { promptIds: synthPrompt('replay-adapted', 9), adapters: one, stop }),
    serve(deployment, {
      promptIds: synthPrompt('replay-blended', 33),
      adapters: [
        { digest: digestOf('rslora_r24'), weight: 0.7 },
        { digest: digestOf('all_r8'), weight: -0.2 },
      ].toSorted((a, b) => (a.digest < b.digest ? -1 : 1)),
      sampling: { repetitionPenalty: 1.3 },
      stop,
    }),
    serve(deployment, {
      promptIds: synthPrompt('replay-stop', 70),
      stop: { maxTokens, tokenIds: [last], ignoreEos: false },
    }),
    serve(
      deployment,
      { promptIds: synthPrompt('replay-cancelled', 12), adapters: one, stop: { maxTokens: 60 } },
      5,
    ),
  ]);
});

/** Folders by the digests that the engine knows them by; a blend's in the opposite order, which must not matter. */
function foldersOf({ uses }: Served): readonly string[] {
  const names = ['all_r8', 'rslora_r24'].filter((name) =>
    uses.some(({ digest }) => digest === deployment.digestOf(name)),
  );
  return names.toReversed().flatMap((name) => ['--adapter', adapterFolder(name)]);
}

async function replayed(
  served: Served,
  receipt: Json,
  disclosure: Json,
  flags: readonly string[],
  backbone: string = FOLDER,
): Promise<CliResult> {
  const files = filesOf(folder, served, receipt, disclosure);
  return cli(
    [
      ...['verify', files.receipt, '--trust', files.trust, '--replay', files.disclosure],
      ...['--backbone', backbone, ...flags],
    ],
    // An environment that no other command would start with: this one must not read it.
    { environment: { PATCHBAY_PORT: 'no port', DATABASE_URL: 'postgres://nobody@127.0.0.1:1/nothing' } },
  );
}

/** What an honest deployment's files give, but for what is said. */
function verdict(
  served: Served,
  changes: {
    readonly receipt?: Readonly<Record<string, string>>;
    readonly disclosure?: Readonly<Record<string, Json>>;
    readonly flags?: readonly string[];
    readonly backbone?: string;
  } = {},
): Promise<CliResult> {
  return replayed(
    served,
    receiptOf(served, deployment, changes.receipt),
    disclosureOf(served, changes.disclosure),
    changes.flags ?? foldersOf(served),
    changes.backbone,
  );
}

describe('what was served in a mixed batch is found again alone', () => {
  test.each([
    ['an adapter, behind a beginning that was reused', () => reused],
    ['a blend, with a repetition penalty', () => blended],
    ['the plain backbone up to a stop token, its prompt in chunks', () => stopped],
  ])('%s', async (_, of) => {
    const served = of();
    const threads = ['1', '2', '3'][served.promptIds.length % 3] ?? '1';
    const { code, out } = await verdict(served, { flags: [...foldersOf(served), '--threads', threads] });
    expect(code).toBe(0);
    expect(out).toMatch(/^✓ disclosure\.prompt .*\n✓ disclosure\.output .*\n✓ disclosure\.counts /m);
    expect(out).toMatch(/^✓ replay\.backbone /m);
    expect(out.match(/^✓ replay\.adapter\.\d /gm) ?? []).toHaveLength(served.uses.length);
    expect(out).toMatch(/^✓ replay\.tokens .*\n✓ replay\.end /m);
    expect(out).toContain(`the answer ended (${served.finish}) after ${served.outputIds.length}`);
  });

  test('the requests were what they are called', () => {
    expect(reused.cachedPromptTokens).toBe(40);
    expect([adapted.finish, stopped.finish, cancelled.finish]).toEqual(['length', 'stop', 'cancelled']);
    expect(stopped.outputIds.length).toBeLessThan(maxTokens);
  });

  test('an answer that was cut off is compared as far as it goes', async () => {
    const { code, out } = await verdict(cancelled);
    expect(code).toBe(0);
    expect(out).toContain(`all ${cancelled.outputIds.length} tokens are those of this run`);
    expect(out).toMatch(/^– replay\.end /m);
  });

  test('--json says the same, and whoever sees less of the receipt is told what is missing', async () => {
    const { out } = await verdict(adapted, { flags: [...foldersOf(adapted), '--json'] });
    const { verified, steps } = JSON.parse(out);
    expect(verified).toBe(true);
    expect(steps.map(({ step }: { step: string }) => step)).toEqual(
      expect.arrayContaining(['disclosure.id', 'replay.adapter.0', 'replay.tokens']),
    );
    const receipt = receiptOf(adapted, deployment);
    if (typeof receipt !== 'object' || receipt === null || Array.isArray(receipt))
      throw new Error('a receipt');
    const blind = await replayed(
      adapted,
      { ...receipt, opened: [] },
      disclosureOf(adapted),
      foldersOf(adapted),
    );
    expect(blind.code).toBe(0);
    expect(blind.out).toMatch(/^– disclosure\.prompt +promptCommitment is not open$/m);
    expect(blind.out).toMatch(/^– replay +not run: this receipt does not open the commitments/m);
  });
});

describe('an operator that does other than it signs is found, although every commitment opens', () => {
  const margin = String.raw`whose logit is [\d.e+-]+ higher \(and [\d.e+-]+ above the second best\)`;

  test('another adapter: its digest is signed, and the tokens are not its tokens', async () => {
    const { code, out } = await verdict(adapted, {
      receipt: { 'part.0.digest': deployment.digestOf('rslora_r24') },
      flags: ['--adapter', adapterFolder('rslora_r24')],
    });
    expect(code).toBe(1);
    expect(out).toMatch(/^✓ replay\.adapter\.0 /m);
    expect(out).toMatch(
      new RegExp(`^✗ replay\\.tokens +position \\d+ has \\d+, this run \\d+, ${margin}, where`, 'm'),
    );
    const many = /; (\d+) of 10 positions differ by more/.exec(out)?.[1];
    expect(Number(many)).toBeGreaterThan(3);
  });

  test('another weight', async () => {
    const { code, out } = await verdict(adapted, { receipt: { 'part.0.weight': '3fd0000000000000' } });
    expect(code).toBe(1);
    expect(out).toMatch(/^✓ replay\.adapter\.0 .*with weight 0\.25$/m);
    expect(out).toMatch(/^✗ replay\.tokens /m);
  });

  test('the plain backbone in the place of an adapter', async () => {
    const { code, out } = await verdict({ ...stopped, uses: adapted.uses });
    expect(code).toBe(1);
    expect(out).toMatch(/^✗ replay\.tokens /m);
  });

  test('one token of the answer, of which the position is named', async () => {
    const outputIds = adapted.outputIds.with(3, (adapted.outputIds[3] ?? 0) === 11 ? 12 : 11);
    const { code, out } = await verdict({ ...adapted, outputIds });
    expect(code).toBe(1);
    expect(out).toMatch(
      new RegExp(
        `^✗ replay\\.tokens +position 3 has ${outputIds[3]}, this run ${adapted.outputIds[3]},`,
        'm',
      ),
    );
  });

  test('another prompt than it commits to', async () => {
    const { code, out } = await verdict({ ...adapted, promptIds: adapted.promptIds.with(8, 13).with(2, 14) });
    expect(code).toBe(1);
    expect(out).toMatch(/^✗ replay\.tokens /m);
  });

  test('an answer that was cut short', async () => {
    const short = await verdict({ ...adapted, outputIds: adapted.outputIds.slice(0, 6) });
    expect(short.code).toBe(1);
    expect(short.out).toMatch(/^✓ replay\.tokens +all 6 /m);
    expect(short.out).toMatch(
      /^✗ replay\.end +the answer ended \(length\) after 6, this run goes on after 6 tokens$/m,
    );
  });

  test('more tokens charged than there are', async () => {
    const { code, out } = await verdict(adapted, { receipt: { completionTokens: '11', promptTokens: '10' } });
    expect(code).toBe(1);
    expect(out).toMatch(
      /^✗ disclosure\.counts +the receipt counts 10 tokens of the prompt, and it has 9 \(and 1 more\)$/m,
    );
  });
});

describe('files that are not those of the receipt are false, and nothing is run on them', () => {
  test.each<[string, Readonly<Record<string, Json>>, string]>([
    ['another answer', { output: [1, 2, 3] }, 'disclosure.output'],
    ['another prompt', { prompt: [1, 2, 3] }, 'disclosure.prompt'],
    ['another salt', { salt: 'ab'.repeat(32) }, 'disclosure.prompt'],
    ['another request', { id: '019ad000-0000-7000-8000-000000000000' }, 'disclosure.id'],
  ])('%s', async (_, disclosure, step) => {
    const { code, out } = await verdict(adapted, { disclosure });
    expect(code).toBe(1);
    expect(out).toContain(`✗ ${step} `);
    expect(out).toMatch(/^– replay +not run: /m);
  });

  test('another adapter', async () => {
    const { code, out } = await verdict(adapted, { flags: ['--adapter', adapterFolder('qv_r3')] });
    expect(code).toBe(1);
    expect(out).toMatch(
      /^✗ replay\.adapter\.0 +the receipt names [0-9a-f]{64}, the folders hold [0-9a-f]{64}$/m,
    );
    expect(out).toMatch(/^– replay\.tokens +not run: the files are not what the receipt names$/m);
  });

  test.each([
    ['another backbone', join(GOLDEN_ROOT, 'qwen2'), '32'],
    ['other bits', FOLDER, '8'],
  ])('%s', async (_, backbone, bits) => {
    const { code, out } = await verdict(adapted, {
      backbone,
      flags: [...foldersOf(adapted), '--bits', bits],
    });
    expect(code).toBe(1);
    expect(out).toMatch(
      new RegExp(
        `^✗ replay\\.backbone +the checkpoint with ${bits} bits is [0-9a-f]{64}, the receipt names`,
        'm',
      ),
    );
    expect(out).toMatch(/^– replay\.adapter\.0 .*\n– replay\.tokens .*\n– replay\.end /m);
  });
});

test('two tokens that are near enough to each other are no difference; how near that is can be said', async () => {
  const outputIds = adapted.outputIds.with(3, (adapted.outputIds[3] ?? 0) === 11 ? 12 : 11);
  const { out } = await verdict(
    { ...adapted, outputIds },
    { flags: [...foldersOf(adapted), '--near-tie', '100'] },
  );
  expect(out).toMatch(
    /^✓ replay\.tokens .* of 10 tokens are those of this run, \d+ at near-ties of at most 100: position 3 has /m,
  );
});

test('nothing is left in the temporary folder', async () => {
  const mine = `patchbay-replay-${process.pid}-`;
  expect((await readdir(tmpdir())).filter((name) => name.startsWith(mine))).toEqual([]);
});

describe('what cannot be used ends with a code and a fix', () => {
  const empty = 'test/fixtures/golden';
  const sampled = { sampling: { temperature: 0.7, repetitionPenalty: 1 } };

  test.each<[string, Parameters<typeof verdict>[1], number, string]>([
    ['a request that drew its tokens', { disclosure: sampled }, 2, 'REPLAY_NOT_GREEDY'],
    [
      'a disclosure of another format',
      { disclosure: { format: 'patchbay-disclosure/2' } },
      2,
      'PROOF_FORMAT',
    ],
    ['a token id that is none', { disclosure: { output: [-1] } }, 2, 'PROOF_FORMAT'],
    ['a member that is unknown', { disclosure: { text: 'x' } }, 2, 'PROOF_FORMAT'],
    ['no adapter', { flags: [] }, 2, 'BAD_INPUT'],
    ['an adapter too many', { flags: ['--adapter', empty, '--adapter', empty] }, 2, 'BAD_INPUT'],
    ['an adapter folder without files', { flags: ['--adapter', empty] }, 3, 'FILE_MISSING'],
    ['a backbone folder that is not there', { backbone: join(empty, 'none') }, 3, 'FILE_MISSING'],
    ['a backbone folder without a checkpoint', { backbone: empty }, 3, 'FILE_MISSING'],
  ])('%s', async (_, changes, wanted, named) => {
    const { code, out, err } = await verdict(adapted, changes);
    expect([code, out]).toEqual([wanted, '']);
    expect(err).toMatch(new RegExp(`^${named}: .+\nFix: .+\n$`));
  });

  test('an imported folder in the place of its checkpoint', async () => {
    const { dir } = await importBackbone({ dir: FOLDER, root: await temporaryFolder(), bits: 32 });
    const { code, err } = await verdict(adapted, { backbone: dir });
    expect(code).toBe(3);
    expect(err).toContain('Fix: Give the checkpoint folder that it was imported from');
  });

  test('an adapter for the plain backbone, and no backbone at all', async () => {
    const { code, err } = await verdict(stopped, { flags: ['--adapter', adapterFolder('all_r8')] });
    expect([code, err.split(':')[0]]).toEqual([2, 'BAD_INPUT']);
    const files = filesOf(folder, stopped, receiptOf(stopped, deployment), disclosureOf(stopped));
    const none = await cli(['verify', files.receipt, '--trust', files.trust, '--replay', files.disclosure]);
    expect([none.code, none.err]).toEqual([2, expect.stringContaining('Fix: Give --backbone')]);
    const half = await cli(['verify', files.receipt, '--trust', files.trust, '--backbone', FOLDER]);
    expect([half.code, half.err]).toEqual([2, expect.stringContaining('Fix: Give --replay')]);
  });
});
