import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Message, WireClient } from '../../../unit/graphql/server.ts';
import { CASES, type RootField, rootFields } from './cases.ts';
import { globalIds, type Ids, missingIds, openScene, type Scene, victimRows } from './victim.ts';

// Generated from the schema: every field of the root types is asked for a victim's things by another tenant and by
// nobody, and for things that do not exist. The answers, and the statements that they cost, must be the same.

let scene: Scene;
beforeAll(async () => {
  scene = await openScene();
});
afterAll(() => scene.stack.close());

const fields = rootFields();

/** Statements that a process runs by itself, or once a second for a key; they say nothing about the question. */
const BACKGROUND =
  /find_api_key|UPDATE instance|SELECT id FROM instance|last_used_at|^LISTEN |^(BEGIN|COMMIT|ROLLBACK)$/;

/** Runs the work and takes down which statements it costs, in order. */
async function traced<T>(
  work: () => Promise<T>,
): Promise<{ readonly value: T; readonly trace: readonly string[] }> {
  const spy = vi.spyOn(pg.Client.prototype, 'query');
  try {
    const value = await work();
    const trace = spy.mock.calls.flatMap(([first]: readonly unknown[]) => {
      const text = typeof first === 'string' ? first : textOf(first);
      return text === null || BACKGROUND.test(text) ? [] : [text];
    });
    return { value, trace };
  } finally {
    spy.mockRestore();
  }
}

function textOf(query: unknown): string | null {
  if (typeof query !== 'object' || query === null || !('text' in query)) return null;
  return typeof query.text === 'string' ? query.text : null;
}

/** The whole answer of a field: of a subscription, its messages until it ends or has nothing more to say at once. */
async function ask(header: string, field: RootField, variables: Record<string, unknown>): Promise<unknown> {
  if (field.kind !== 'subscription') return scene.stack.query(header, field.document, variables);
  const client = await new WireClient(scene.stack.graphqlUrl).init(header);
  client.subscribe('1', field.document, variables);
  // What is refused says so first; what is not is no business of anybody but the owner.
  const message: Message = await client.next('1');
  client.socket.terminate();
  return message;
}

/** The answer with the ids that were asked for, and those of the request, made the same. */
function comparable(answer: unknown, asked: Ids): unknown {
  let text = JSON.stringify(answer).replaceAll(/"requestId":"[0-9a-f-]{36}"/g, '"requestId":""');
  for (const [name, id] of [...Object.entries(asked), ...Object.entries(globalIds(asked))]) {
    text = text.replaceAll(id, `<${name}>`);
  }
  return JSON.parse(text.replaceAll(/"time":"[^"]*"/g, '"time":""'));
}

test('every field of the root types has a case, and every case a field', () => {
  expect(Object.keys(CASES).sort()).toEqual(fields.map(({ name }) => name).sort());
});

describe('to another tenant', () => {
  test.each(fields.map((field) => [field.name, field] as const))(
    '%s answers about a victim’s things as about none, at the same cost',
    async (name, field) => {
      const foreign = CASES[name]?.(scene.victim) ?? [];
      expect(foreign.length).toBeGreaterThan(0);
      const nobody = missingIds(scene.victim);
      const missing = CASES[name]?.(nobody) ?? [];
      const before = await victimRows(scene);
      for (const [index, variables] of foreign.entries()) {
        const { header } = scene.stranger;
        // Once for nothing, so that neither answer finds a cache colder than the other.
        await ask(header, field, CASES[name]?.(missingIds(scene.victim))[index] ?? {});
        const asked = await traced(() => ask(header, field, variables));
        const reference = await traced(() => ask(header, field, missing[index] ?? {}));
        expect(comparable(asked.value, scene.victim)).toEqual(comparable(reference.value, nobody));
        expect(asked.trace).toEqual(reference.trace);
        const given = JSON.stringify(variables);
        const told = JSON.stringify(asked.value);
        // An operation that is refused as such would make any two answers the same.
        expect(told).not.toMatch(/QUERY_TOO_COMPLEX|GRAPHQL_|INTERNAL/);
        for (const secret of scene.secrets) {
          if (!given.includes(secret)) expect(told, `${name} tells ${secret}`).not.toContain(secret);
        }
      }
      expect(await victimRows(scene)).toEqual(before);
    },
  );
});

describe('to nobody', () => {
  test.each(
    fields.filter(({ kind }) => kind !== 'subscription').map((field) => [field.name, field] as const),
  )('%s answers nothing', async (name, field) => {
    for (const variables of CASES[name]?.(scene.victim) ?? []) {
      const response = await fetch(scene.stack.graphqlUrl, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ query: field.document, variables }),
      });
      const { data, errors }: Record<string, unknown> = JSON.parse(await response.text());
      if (name === 'Query.health') {
        expect(errors).toBeUndefined();
        continue;
      }
      expect(errors).toMatchObject([{ extensions: { code: 'UNAUTHENTICATED' } }]);
      expect(
        data === null || data === undefined || Object.values(data).every((value) => value === null),
      ).toBe(true);
    }
  });

  test('no subscription begins: the socket is refused', async () => {
    const client = await new WireClient(scene.stack.graphqlUrl).open();
    client.send({ type: 'connection_init', payload: {} });
    expect((await client.closed).code).toBe(4401);
  });
});

test('the owner does find all of it: the questions are the right ones', async () => {
  const found: string[] = [];
  for (const field of fields.filter(({ kind }) => kind === 'query')) {
    for (const variables of CASES[field.name]?.(scene.victim) ?? []) {
      const answer = await scene.stack.query(scene.victimHeader, field.document, variables);
      const text = JSON.stringify(answer);
      if (scene.secrets.some((secret) => text.includes(secret))) found.push(field.name);
    }
  }
  expect(found).toEqual(
    expect.arrayContaining([
      ...['Query.me', 'Query.node', 'Query.tenant', 'Query.apiKeys', 'Query.members', 'Query.auditLog'],
      ...['Query.adapters', 'Query.adapter', 'Query.adapterVersion', 'Query.upload', 'Query.usageRecords'],
      ...['Query.ownedUsage', 'Query.request', 'Query.ledgerEntries', 'Query.budgets', 'Query.events'],
      ...['Query.ownedUsage', 'Query.request', 'Query.payouts', 'Query.payoutDestinations'],
      'Query.payoutClaim',
      ...['Query.ownedUsage', 'Query.request', 'Query.export', 'Query.exports'],
      ...['Query.prices', 'Query.royalties', 'Query.splits', 'Query.splitProposals', 'Query.quote'],
    ]),
  );
  // `node` finds every kind that has a global id but none twice.
  for (const id of Object.values(globalIds(scene.victim))) {
    const { data } = await scene.stack.query(
      scene.victimHeader,
      'query ($id: ID!) { node(id: $id) { id } }',
      { id },
    );
    expect(data).toEqual({ node: { id } });
  }
});
