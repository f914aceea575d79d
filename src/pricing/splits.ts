import { z } from 'zod';
import { type Actor, requireScope } from '../auth/principal.ts';
import type { Database, Tx } from '../db/client.ts';
import { hashRequest, runIdempotent } from '../db/idempotency.ts';
import { keyset, type Page, type PageRequest, toPage } from '../db/page.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, newId, type Uuid } from '../kernel/ids.ts';
import { auditDenied, type RequestContext, recordAudit } from '../tenant/audit.ts';
import { PRICE_LEAD_MS, toSplitTerms } from './resolver.ts';
import { adapterNotFound } from './service.ts';
import { requireSplitTerms, type SplitTerms } from './terms.ts';
import { historyPage, startOf } from './versions.ts';

/** Who earns from an adapter, from a time on until the next one of the same scope. */
export interface SplitVersion {
  readonly id: Uuid;
  readonly adapterId: Uuid;
  /** Null for all versions that have no split of their own. */
  readonly adapterVersionId: Uuid | null;
  readonly terms: SplitTerms;
  readonly effectiveFrom: Date;
  readonly createdAt: Date;
}

/** What somebody who would join, or whose share would fall, has said; null while they have said nothing. */
export interface SplitDecision {
  readonly tenantId: Uuid;
  readonly agrees: boolean | null;
  readonly decidedAt: Date | null;
}

/** A split that an owner wants. */
export interface SplitProposal extends SplitVersion {
  readonly ownerTenantId: Uuid;
  readonly state: 'PENDING' | 'ACTIVE' | 'REFUSED' | 'STALE';
  readonly decisions: readonly SplitDecision[];
  /** The split that it became; null while it has not. */
  readonly split: SplitVersion | null;
}

/** What an owner proposes. */
export interface ProposeSplitInput {
  readonly idempotencyKey: string;
  readonly adapterId: Uuid;
  readonly adapterVersionId: Uuid | null;
  readonly terms: SplitTerms;
  /** Null for as soon as everybody has agreed. */
  readonly effectiveFrom: Date | null;
}

const answer = z.object({ proposalId: z.string() });
const states = z.array(
  z.object({ proposal_id: z.string(), state: z.enum(['PENDING', 'ACTIVE', 'REFUSED', 'STALE']) }),
);
const said = z.array(z.object({ said: z.string().nullable() }));

type ProposalRow = NonNullable<Awaited<ReturnType<typeof findProposal>>>;

/** Splits of adapters: proposed by owners, in effect once everyone who joins or whose share falls has agreed. */
export class SplitService {
  readonly #deps: { readonly database: Database; readonly clock: Clock };

  constructor(dependencies: { readonly database: Database; readonly clock: Clock }) {
    this.#deps = dependencies;
  }

  /**
   * Proposes a split. It is in effect without anybody's consent when nobody joins and nobody's share but the owner's falls.
   * Whether the tenants that it names are there is not looked at: what they do not agree to never comes into effect.
   */
  async propose(
    actor: Actor,
    input: ProposeSplitInput,
    context: RequestContext = {},
  ): Promise<SplitProposal> {
    const { adapterId, adapterVersionId, terms } = input;
    const { tenantId } = actor;
    const { clock, database } = this.#deps;
    const action = { actor, action: 'split.propose', targetType: 'adapter', targetId: adapterId, context };
    await auditDenied(this.#deps, action, () => requireScope(actor, 'payouts:write'));
    requireSplitTerms(terms, 'beneficiaries');
    const beneficiaries = recorded(terms);
    const args = {
      adapterId,
      adapterVersionId,
      beneficiaries,
      effectiveFrom: input.effectiveFrom?.toISOString() ?? null,
    };
    const request = {
      scope: { tenantId, actor: actor.kind },
      operation: 'proposeSplit',
      key: input.idempotencyKey,
      requestHash: hashRequest(args),
    };
    return database.withTenant(tenantId, async (tx) => {
      const { value } = await runIdempotent(request, tx, { codec: answer, clock }, async () => {
        const id = newId(clock);
        const nowMs = clock.nowMs();
        const effectiveFrom = startOf(nowMs, input.effectiveFrom);
        const current = await tx.splitVersion.findFirst({
          where: { adapterId, adapterVersionId, effectiveFrom: { lt: effectiveFrom } },
          orderBy: { effectiveFrom: 'desc' },
        });
        const outcome = await this.#insert(tx, id, input, effectiveFrom, nowMs);
        refuseProposal(outcome, effectiveFrom);
        const before = current && {
          splitId: current.id,
          beneficiaries: recorded(toSplitTerms(current)),
          effectiveFrom: current.effectiveFrom.toISOString(),
        };
        const after = { ...args, proposalId: id, state: outcome };
        await recordAudit(tx, clock, { ...action, tenantId, ...(before && { before }), after });
        return { proposalId: id };
      });
      return this.#mustGet(tx, value.proposalId);
    });
  }

  /**
   * Agrees to a proposal, or refuses it for good; an owner refuses to withdraw. Repeating a decision changes nothing.
   */
  async decide(
    actor: Actor,
    input: { readonly proposalId: Uuid; readonly agrees: boolean },
    context: RequestContext = {},
  ): Promise<SplitProposal> {
    const { proposalId, agrees } = input;
    const { tenantId } = actor;
    const { clock, database } = this.#deps;
    const action = {
      actor,
      action: 'split.decide',
      targetType: 'splitProposal',
      targetId: proposalId,
      context,
    };
    await auditDenied(this.#deps, action, () => requireScope(actor, 'payouts:write'));
    const { at, earliest } = timesOf(clock.nowMs());
    return database.withTenant(tenantId, async (tx) => {
      const known = await findProposal(tx, proposalId);
      const before = known && toProposal(known, await statesOf(tx, [proposalId]));
      const [row] = said.parse(
        await tx.$queryRaw`
          SELECT patchbay.decide_split(
            ${proposalId}::uuid, ${agrees}::boolean, ${newId(clock)}::uuid, ${at}::timestamptz, ${earliest}::timestamptz) AS said`,
      );
      const outcome = row?.said ?? null;
      if (outcome === null) {
        throw new PatchbayError('NOT_FOUND', 'No such proposal is visible to you.', { field: 'proposal' });
      }
      const proposal = await this.#mustGet(tx, proposalId);
      const own = proposal.decisions.find((made) => made.tenantId === tenantId)?.agrees ?? null;
      if (own !== agrees) throw refusedDecision(outcome, own);
      // A repetition is no change.
      const earlier = before?.decisions.find((made) => made.tenantId === tenantId)?.agrees ?? null;
      if (before !== null && earlier === null) {
        await recordAudit(tx, clock, {
          ...action,
          tenantId,
          before: { agrees: null, state: before.state },
          after: { agrees, state: proposal.state },
        });
      }
      return proposal;
    });
  }

  /** The splits of an adapter, or of one of its versions alone, that the actor is a party of, last first. */
  list(
    actor: Actor,
    scope: { readonly adapterId: Uuid; readonly adapterVersionId: Uuid | null },
    page: PageRequest,
  ): Promise<Page<SplitVersion>> {
    requireScope(actor, 'billing:read');
    const { database } = this.#deps;
    const work = async (tx: Tx): Promise<Page<SplitVersion>> =>
      historyPage(
        page,
        {
          find: async (id) => (isUuid(id) ? tx.splitVersion.findFirst({ where: { ...scope, id } }) : null),
          read: (before, take) =>
            tx.splitVersion.findMany({
              where: { ...scope, ...(before === null ? {} : { effectiveFrom: { lt: before } }) },
              orderBy: { effectiveFrom: 'desc' },
              take,
            }),
        },
        (row) => ({ ...toSplit(row), effectiveUntil: null }),
      );
    return actor.kind === 'TENANT' ? database.withTenant(actor.tenantId, work) : database.withSystem(work);
  }

  /** The proposals that the actor's tenant is a party of, oldest first; of one adapter when it is named. */
  proposals(actor: Actor, adapterId: Uuid | null, page: PageRequest): Promise<Page<SplitProposal>> {
    requireScope(actor, 'billing:read');
    const { where, ...order } = keyset(page);
    return this.#deps.database.withTenant(actor.tenantId, async (tx) => {
      const rows = await tx.splitProposal.findMany({
        where: { AND: [where, adapterId === null ? {} : { adapterId }] },
        include: { consents: true, split: true },
        ...order,
      });
      const known = await statesOf(
        tx,
        rows.map(({ id }) => id),
      );
      return toPage(rows, page, (row) => toProposal(row, known));
    });
  }

  async #insert(
    tx: Tx,
    id: Uuid,
    { adapterId, adapterVersionId, terms }: ProposeSplitInput,
    effectiveFrom: Date,
    nowMs: number,
  ): Promise<string> {
    const { at, earliest } = timesOf(nowMs);
    const tenants = terms.beneficiaries.map(({ tenantId }) => tenantId);
    const parts = terms.beneficiaries.map((beneficiary) => beneficiary.parts);
    const [row] = said.parse(
      await tx.$queryRaw`
        SELECT patchbay.propose_split(
          ${id}::uuid, ${newId(this.#deps.clock)}::uuid, ${adapterId}::uuid, ${adapterVersionId}::uuid,
          ${tenants}::uuid[], ${parts}::bigint[], ${effectiveFrom}::timestamptz, ${at}::timestamptz, ${earliest}::timestamptz) AS said`,
    );
    return row?.said ?? '';
  }

  async #mustGet(tx: Tx, id: Uuid): Promise<SplitProposal> {
    const row = await findProposal(tx, id);
    if (row === null) throw new PatchbayError('NOT_FOUND', 'No such proposal is visible to you.');
    return toProposal(row, await statesOf(tx, [id]));
  }
}

/** Shares as the audit log has them. */
function recorded({ beneficiaries }: SplitTerms) {
  return beneficiaries.map(({ tenantId, parts }) => ({ tenant: tenantId, parts: parts.toString() }));
}

/** When something is decided, and when what follows from it can begin. */
function timesOf(nowMs: number): { readonly at: Date; readonly earliest: Date } {
  return { at: new Date(nowMs), earliest: new Date(nowMs + PRICE_LEAD_MS) };
}

function findProposal(tx: Tx, id: Uuid) {
  return tx.splitProposal.findUnique({ where: { id }, include: { consents: true, split: true } });
}

async function statesOf(tx: Tx, ids: readonly Uuid[]): Promise<ReadonlyMap<Uuid, SplitProposal['state']>> {
  const rows = states.parse(await tx.$queryRaw`SELECT * FROM patchbay.split_states(${[...ids]}::uuid[])`);
  return new Map(rows.map(({ proposal_id, state }) => [proposal_id, state]));
}

function refuseProposal(outcome: string, effectiveFrom: Date): void {
  switch (outcome) {
    case 'UNKNOWN_ADAPTER':
      throw adapterNotFound('adapter');
    case 'PLATFORM':
      throw new PatchbayError('BAD_INPUT', 'The platform has no share in a split.', {
        field: 'beneficiaries',
        fix: 'Name tenants. What the platform gets of a royalty is its fee.',
      });
    case 'TOO_EARLY':
      throw new PatchbayError(
        'SPLIT_STATE',
        `A split that begins at ${effectiveFrom.toISOString()} or later is there already.`,
        { field: 'effectiveFrom', fix: 'Let the new one begin after the newest split.' },
      );
  }
}

function refusedDecision(outcome: string, own: boolean | null): PatchbayError {
  if (outcome === 'NOT_ASKED') {
    return new PatchbayError('SPLIT_STATE', 'Your consent is not needed for this proposal.', {
      field: 'agrees',
      fix: 'Leave it to those who join or whose share falls.',
    });
  }
  const message =
    own === null
      ? `The proposal is ${outcome}.`
      : `You have ${own ? 'agreed to' : 'refused'} the proposal before, and a decision stands.`;
  return new PatchbayError('SPLIT_STATE', message, { field: 'proposal', meta: { state: outcome } });
}

function toSplit(row: {
  readonly id: Uuid;
  readonly adapterId: Uuid;
  readonly adapterVersionId: Uuid | null;
  readonly beneficiaries: readonly Uuid[];
  readonly parts: readonly bigint[];
  readonly effectiveFrom: Date;
  readonly createdAt: Date;
}): SplitVersion {
  const { id, adapterId, adapterVersionId, effectiveFrom, createdAt } = row;
  return { id, adapterId, adapterVersionId, terms: toSplitTerms(row), effectiveFrom, createdAt };
}

function toProposal(row: ProposalRow, known: ReadonlyMap<Uuid, SplitProposal['state']>): SplitProposal {
  const decided = new Map(row.consents.map((consent) => [consent.tenantId, consent]));
  // An owner who has withdrawn has decided without being asked.
  const deciders = new Set([...row.consentsNeeded, ...decided.keys()]);
  return {
    ...toSplit(row),
    ownerTenantId: row.tenantId,
    state: known.get(row.id) ?? 'PENDING',
    decisions: [...deciders].map((tenantId) => {
      const made = decided.get(tenantId);
      return { tenantId, agrees: made?.agrees ?? null, decidedAt: made?.decidedAt ?? null };
    }),
    split: row.split && toSplit(row.split),
  };
}
