import { spawn } from 'node:child_process';
import type { Wallet } from 'ethers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Bundle, bundle } from '../../kit/bundle.ts';
import { BUMP_MS, FEE_CEILING, LEASE_MS, OutboxKit, SENDING } from './kit.ts';

// At every point of a run at which something was written or sent, a sender is killed for real. Then another one goes on, and
// what was ordered has happened once.

const WRITE = (n: number) => [`write ${n} before commit`, `write ${n} after commit`];
/** What a run has to do, and where it passes: the first write is always that of its lease. */
const POINTS = {
  send: ['write 1 after commit', ...WRITE(2), 'after sending', 'write 3 before commit'],
  raise: [...WRITE(2), 'after sending'],
  include: WRITE(2),
  finish: WRITE(2),
  takeBack: WRITE(2),
} as const;
type Step = keyof typeof POINTS;
const CASES = Object.entries(POINTS).flatMap(([step, points]) => points.map((point) => ({ step, point })));

let kits: readonly OutboxKit[];
let program: Bundle;
beforeAll(async () => {
  program = await bundle('test/integration/chain/kill-process.ts');
  kits = await Promise.all([OutboxKit.open(31_337n), OutboxKit.open(31_338n)]);
});
afterAll(() => program.remove());

/** Lets a process make one run and die; answers with the signal that ended it. */
function die(kit: OutboxKit, wallet: Wallet, point: string): Promise<NodeJS.Signals | null> {
  const { systemUrl } = kit.db;
  const { url, chainId } = kit.chain;
  const order = {
    ...{ systemUrl, url, chainId: String(chainId), key: wallet.privateKey, point },
    ...{ nowMs: kit.clock.nowMs(), options: SENDING, feeCeiling: String(FEE_CEILING) },
  };
  const child = spawn(process.execPath, [program.path, JSON.stringify(order)], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return new Promise((resolve) => child.once('exit', (_code, signal) => resolve(signal)));
}

/** Brings a payment to where the step is next, and changes the chain for it. */
async function prepare(kit: OutboxKit, step: Step, run: () => Promise<unknown>): Promise<void> {
  if (step === 'send') return;
  await run();
  if (step === 'raise') {
    await kit.chain.ask('anvil_dropAllTransactions');
    kit.clock.advance(BUMP_MS);
    return;
  }
  await kit.mine();
  if (step === 'include') return;
  await run();
  if (step === 'finish') await kit.mine(2);
  else await kit.chain.ask('anvil_reorg', 1, []);
}

async function live(kit: OutboxKit, step: Step, point: string): Promise<void> {
  const name = `${step}: ${point}`;
  const wallet = await kit.account();
  const sender = kit.sender(wallet);
  const payee = await kit.pay();
  await prepare(kit, step, () => sender.run());
  expect(await die(kit, wallet, point), name).toBe('SIGKILL');
  // Whoever was killed still has the lease, and nobody else does anything until it ends.
  expect(await sender.run(), name).toBe('HELD');
  kit.clock.advance(LEASE_MS);
  await sender.run();
  await kit.mine(3);
  await sender.run();
  expect(await kit.state(payee.purpose), name).toMatchObject({ state: 'FINAL', signed: { nonce: 0 } });
  expect(await kit.balance(payee.address), name).toBe(1n);
  expect(await kit.chain.provider.getTransactionCount(wallet.address), name).toBe(1);
}

test(`a sender that is killed at any of ${CASES.length} points loses nothing, and sends nothing twice`, {
  timeout: 120_000,
}, async () => {
  const queue = [...CASES];
  const worker = async (kit: OutboxKit): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { step, point } = next;
      const known = STEPS.find((one) => one === step);
      if (known === undefined) throw new Error(`There is no step ${step}.`);
      await live(kit, known, point);
    }
  };
  await Promise.all(kits.map(worker));
});

const STEPS: readonly Step[] = ['send', 'raise', 'include', 'finish', 'takeBack'];
