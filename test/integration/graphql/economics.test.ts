import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { toGlobalId } from '../../../src/graphql/ids.ts';
import { NANO } from '../../../src/kernel/money.ts';
import type { TestKey } from '../../kit/tenancy.ts';
import { digestOf, samples } from '../economics/kit.ts';
import { openStack, type Stack } from './stack.ts';

const S = 1_000_000n;
const HOUR = new Date(Date.UTC(2099, 2, 1, 10));
const FIGURES = `figures {
  revenue earned platformRevenue computeSeconds hostByteSeconds bankByteSeconds loads bytesLoaded loadSeconds
  computeCost memoryCost loadCost margin
}`;
const QUERY = `query ($first: Int, $after: String, $order: EconomicsOrder) {
  economics(from: "2099-03-01T10:30:00Z", to: "2099-03-01T11:00:00Z") {
    from to currency machinePricePerHour memoryPercent
    totals { machineSeconds machineCost idleCost dedicatedHours dedicatedCost saved ${FIGURES} }
    adapters(first: $first, after: $after, order: $order) {
      edges { cursor node { name requests adapterId paysForItsMemory dedicatedHours dedicatedCost adapter { id } ${FIGURES} } }
      pageInfo { hasNextPage endCursor }
    }
    tenants(first: $first, order: $order) {
      edges { node { name requests tenantId tenant { id } ${FIGURES} } }
      pageInfo { hasNextPage }
    }
  }
}`;

let stack: Stack;
let operator: TestKey;
let owner: TestKey;
let tenantId: string;
let adapterId: string;

beforeAll(async () => {
  stack = await openStack();
  operator = await stack.tenancy.createOperatorKey();
  const made = await stack.tenant('owner');
  tenantId = made.tenant.id;
  owner = made.key;
  const write = samples(stack.registry.db);
  const mine = await write.adapter(tenantId, 'mine', digestOf('mine'));
  adapterId = mine.adapterId;
  const run = randomUUID();
  await write.engine(run, HOUR, 100n);
  // A machine costs one unit: half a unit for its 360,000 byte-seconds, and half for its 3,600 seconds.
  await write.held(run, {
    ...{ digest: digestOf('mine'), hour: HOUR, loads: 2, loadUs: 1_500_000 },
    ...{ hostByteUs: 36_000n * S + 1n, bankByteUs: 36_000n * S },
  });
  const on = { hour: HOUR, tenantId };
  await write.use({ ...on, on: mine, computeS: 7.2, amount: 900_000n, earned: 100_000n });
  await write.use({ ...on, on: null, computeS: 36, amount: 2n * NANO });
});
afterAll(() => stack.close());

const ask = (variables: Record<string, unknown> = {}, who = operator) =>
  stack.query(who.header, QUERY, variables);

const MINE = {
  revenue: '900000',
  earned: '100000',
  platformRevenue: '800000',
  computeSeconds: 7.2,
  hostByteSeconds: '36000',
  bankByteSeconds: '36000',
  loads: '2',
  bytesLoaded: '20',
  loadSeconds: 1.5,
  computeCost: '1000000',
  memoryCost: '100000000',
  loadCost: '208333',
  margin: String(800_000 - 1_000_000 - 100_000_000 - 208_333),
};

test('an operator sees what each adapter and tenant brought and cost, and the whole', async () => {
  const { data, errors } = await ask();
  expect(errors).toBeUndefined();
  expect(data).toMatchObject({
    economics: {
      from: HOUR.toISOString(),
      to: '2099-03-01T11:00:00.000Z',
      currency: 'USD',
      machinePricePerHour: String(NANO),
      memoryPercent: 50,
      totals: {
        machineSeconds: 3_600,
        machineCost: '1000000000',
        idleCost: String(1_000_000_000 - 6_000_000 - 100_000_000 - 208_333),
        dedicatedHours: '1',
        dedicatedCost: '1000000000',
        saved: '0',
        figures: { revenue: '2000900000', computeCost: '6000000' },
      },
      adapters: {
        edges: [
          {
            node: {
              name: 'owner/mine',
              requests: '1',
              adapterId,
              paysForItsMemory: false,
              dedicatedHours: '1',
              dedicatedCost: '1000000000',
              figures: MINE,
            },
          },
          {
            node: {
              name: 'plain backbone',
              adapterId: null,
              adapter: null,
              paysForItsMemory: true,
              dedicatedHours: '0',
              figures: { memoryCost: '0', margin: '1995000000' },
            },
          },
        ],
        pageInfo: { hasNextPage: false },
      },
      tenants: {
        edges: [
          {
            node: {
              name: 'owner',
              requests: '2',
              tenantId,
              tenant: { id: toGlobalId('Tenant', tenantId) },
              figures: { revenue: '2000900000', memoryCost: '100000000' },
            },
          },
        ],
      },
    },
  });
});

test('a list is paged in its order, and a cursor of another order is refused', async () => {
  const first = await ask({ first: 1, order: 'HIGHEST_REVENUE' });
  expect(first.data).toMatchObject({
    economics: {
      adapters: { edges: [{ node: { name: 'plain backbone' } }], pageInfo: { hasNextPage: true } },
    },
  });
  const [, cursor] = /"endCursor":"([^"]+)"/.exec(JSON.stringify(first.data)) ?? [];
  const second = await ask({ first: 1, order: 'HIGHEST_REVENUE', after: cursor });
  expect(second.data).toMatchObject({
    economics: { adapters: { edges: [{ node: { name: 'owner/mine' } }], pageInfo: { hasNextPage: false } } },
  });
  const other = await ask({ first: 1, order: 'LOWEST_MARGIN', after: cursor });
  expect(other.errors).toMatchObject([{ extensions: { code: 'BAD_INPUT', field: 'after' } }]);
});

test('nobody but an operator sees any of it', async () => {
  const { data, errors } = await ask({}, owner);
  expect(data).toBeNull();
  expect(errors).toMatchObject([{ extensions: { code: 'FORBIDDEN' } }]);
});
