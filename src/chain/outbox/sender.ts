import type { Database } from '../../db/client.ts';
import type { Clock } from '../../kernel/clock.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import { newId } from '../../kernel/ids.ts';
import type { ChainNode } from './node.ts';
import { callOf, type Finality, observe, readStanding } from './observe.ts';
import { makePlan, type Plan, type PlanOptions, type Send } from './plan.ts';
import type { TransactionSigner } from './signer.ts';
import { type GivenNonce, type Lease, LeaseLost, SenderStore, type Sight } from './store.ts';
import type { OpenTransaction, Problem, QueuedTransaction } from './types.ts';

/** How a sender works. */
export interface SenderOptions extends PlanOptions {
  readonly chainId: bigint;
  readonly finality: Finality;
  /** After how long without a word another process takes over. */
  readonly leaseMs: number;
  /** How often is looked at the chain while there is nothing to send. */
  readonly idleMs: number;
}

/** What suits most chains; the rest is for the configuration to say. */
export const SENDER_DEFAULTS = { leaseMs: 120_000, idleMs: 60_000, inFlightMax: 16 };

interface SenderDeps {
  readonly database: Pick<Database, 'querySystem' | 'withSystemPg'>;
  readonly clock: Clock;
  readonly node: ChainNode;
  readonly signer: TransactionSigner;
}

/** `HELD`: another process sends for the account. `IDLE`: there was nothing to do. */
export type RunOutcome = 'HELD' | 'IDLE' | 'DONE' | 'TROUBLED';

/**
 * Brings what was ordered onto the chain. A run looks at what is stored and at the chain, does what follows from that, and
 * ends; whatever a run did not come to, or was killed in, the next one does. What is sent was stored before, so that no answer
 * of a node, and none that fails to come, decides whether something is sent for a second time.
 */
export class OutboxSender {
  readonly #options: SenderOptions;
  readonly #deps: SenderDeps;
  readonly #store: SenderStore;
  #running: Promise<RunOutcome> | null = null;
  #idleSince: number | null = null;

  constructor(options: SenderOptions, deps: SenderDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#store = new SenderStore(options.chainId, deps.database);
  }

  /** The account whose key is there. */
  get account(): string {
    return this.#deps.signer.address;
  }

  /** Does what there is to do. Nothing that the chain or its node does makes it fail; only the database can. */
  run(): Promise<RunOutcome> {
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #run(): Promise<RunOutcome> {
    const outcome = await this.#runFor(this.account);
    // What was signed with a key that was replaced meanwhile is still on its way.
    for (const account of await this.#store.accounts()) {
      if (account !== this.account) await this.#runFor(account);
    }
    return outcome;
  }

  async #runFor(account: string): Promise<RunOutcome> {
    const canSign = account === this.account;
    const open = await this.#store.open(account, canSign);
    if (open.length === 0 && this.#isIdle()) return 'IDLE';
    const lease = await this.#store.take(account, this.#deps.clock.nowMs(), this.#options.leaseMs);
    if (lease === null) return 'HELD';
    const seen: { sight: Sight | null } = { sight: null };
    try {
      const problem = await this.#work(lease, canSign, seen);
      await this.#end(lease, seen.sight, problem);
      return problem === null ? 'DONE' : 'TROUBLED';
    } catch (error) {
      if (error instanceof LeaseLost) return 'HELD';
      if (!(error instanceof PatchbayError) || !error.code.startsWith('CHAIN_')) {
        // Left to the next run at once, if the database can still be told.
        await this.#end(lease, null, null).catch(() => {});
        throw error;
      }
      const { code, message } = error;
      await this.#end(lease, seen.sight, { code, message });
      return 'TROUBLED';
    }
  }

  #isIdle(): boolean {
    return this.#idleSince !== null && this.#deps.clock.nowMs() - this.#idleSince < this.#options.idleMs;
  }

  #end(lease: Lease, sight: Sight | null, problem: Problem | null): Promise<void> {
    return this.#store.end(lease, this.#deps.clock.nowMs(), sight, problem);
  }

  /** Answers with what is in the way of everything, if anything is. */
  async #work(lease: Lease, canSign: boolean, seen: { sight: Sight | null }): Promise<Problem | null> {
    const { node, clock } = this.#deps;
    await node.requireChain(this.#options.chainId);
    const standing = await readStanding(node, lease.account);
    const { number: height } = standing.head;
    seen.sight = { height, balance: standing.balance };
    // Read while the lease is held: before, another process may have been at work.
    const open = await this.#store.open(lease.account, canSign);
    this.#idleSince = open.length === 0 && canSign ? clock.nowMs() : null;
    const given = await this.#store.given(lease.account, standing.used);
    const lost = given.find(({ isOver }) => isOver);
    if (open.length > 0) {
      const keep = this.#keeper(lease);
      const mayGive = lost === undefined;
      const fills = canSign && mayGive ? this.#fills(lease.account, standing.used, given) : NO_FILLS;
      const onTheirWay = open.filter(({ state }) => state === 'SIGNED').length;
      const room = mayGive ? this.#options.inFlightMax - onTheirWay : 0;
      const { finality } = this.#options;
      const view = await observe(node, standing, { finality, open, fills: fills.values(), room, keep });
      const nowMs = clock.nowMs();
      const nonces = new Set(given.map(({ nonce }) => nonce));
      const plan = makePlan({ open, given: nonces, mayGive, fills, view, canSign, nowMs }, this.#options);
      const reasons = await this.#refusals(lease, plan, open, keep);
      await keep();
      await this.#store.move(lease, plan.moves, reasons, nowMs);
      const problems = await this.#send(lease, plan, keep);
      // Of what was not asked about, nothing new is known.
      const looked = open.filter(({ id, state }) => state !== 'QUEUED' || view.quotes.has(id));
      await this.#store.note(lease, looked, problems, nowMs);
    }
    if (lease.height !== null && height < lease.height) return behind(height, lease.height);
    return lost === undefined ? null : broken(lost.nonce);
  }

  /** Keeps the right to send while a slow node is asked: two processes that lose it to each other would both get nowhere. */
  #keeper(lease: Lease): () => Promise<void> {
    const { clock } = this.#deps;
    const { leaseMs } = this.#options;
    let renewedMs = clock.nowMs();
    return async () => {
      const nowMs = clock.nowMs();
      if (nowMs - renewedMs < leaseMs / 4) return;
      await this.#store.renew(lease, nowMs, leaseMs);
      renewedMs = nowMs;
    };
  }

  /** An empty transfer to the account itself for each nonce that was not given out, below one that was. */
  #fills(
    account: string,
    used: number,
    given: readonly GivenNonce[],
  ): ReadonlyMap<number, QueuedTransaction> {
    const fills = new Map<number, QueuedTransaction>();
    let nonce = used;
    for (const { nonce: next } of given) {
      for (; nonce < next && fills.size < this.#options.inFlightMax; nonce += 1) {
        const common = { id: newId(this.#deps.clock), purpose: `fill:${account}:${nonce}`, problem: null };
        fills.set(nonce, { state: 'QUEUED', ...common, call: { to: account, data: '0x' }, value: 0n });
      }
      nonce = next + 1;
    }
    return fills;
  }

  /** Why transactions were refused that are now known to be in a block. */
  async #refusals(
    { account: from }: Lease,
    { moves }: Plan,
    open: readonly OpenTransaction[],
    keep: () => Promise<void>,
  ): Promise<ReadonlyMap<string, string>> {
    const reasons = new Map<string, string>();
    for (const move of moves) {
      const transaction = open.find(({ id }) => id === move.id);
      if (move.kind !== 'INCLUDE' || move.succeeded || transaction === undefined) continue;
      await keep();
      const reason = await this.#deps.node.refusal({ from, ...callOf(transaction) }, move.block.number);
      if (reason !== null) reasons.set(move.id, reason);
    }
    return reasons;
  }

  /** Sends in the order of nonces; answers with all that is in the way of transactions. */
  async #send(
    lease: Lease,
    { sends, problems }: Plan,
    keep: () => Promise<void>,
  ): Promise<ReadonlyMap<string, Problem>> {
    const all = new Map(problems);
    for (const send of sends) {
      await keep();
      const id = send.kind === 'AGAIN' ? send.id : send.transaction.id;
      const raw = send.kind === 'AGAIN' ? send.attempt.raw : await this.#sign(lease, send);
      const problem = await this.#deps.node.broadcast(raw);
      if (problem === null) continue;
      if (!all.has(id)) all.set(id, problem);
      // What comes after it would only wait as long again.
      if (problem.code === 'CHAIN_UNREACHABLE') break;
    }
    return all;
  }

  async #sign(lease: Lease, send: Extract<Send, { kind: 'SIGN' }>): Promise<string> {
    const { signer, clock } = this.#deps;
    const { transaction, nonce, gas, fees } = send;
    const { call, value } = transaction;
    const signed = await signer.sign({ chainId: this.#options.chainId, nonce, call, value, gas, fees });
    await this.#store.signed(lease, send, signed, clock.nowMs());
    return signed.raw;
  }
}

const NO_FILLS: ReadonlyMap<number, QueuedTransaction> = new Map();

function broken(nonce: number): Problem {
  return {
    code: 'CHAIN_FINALITY_BROKEN',
    message: `The chain lacks the transaction with nonce ${nonce}, which was final. Nothing new is signed.`,
  };
}

function behind(height: number, seen: number): Problem {
  return {
    code: 'CHAIN_NODE_BEHIND',
    message: `The node is at block ${height}, and block ${seen} was there before: it is behind, or its chain was rolled back.`,
  };
}
