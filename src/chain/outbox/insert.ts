import type { PoolClient } from 'pg';
import type { Order } from './types.ts';

// What is there already is kept; whoever orders it compares.
const INSERT = `
INSERT INTO chain_transaction (id, chain_id, purpose, recipient, data, value_wei, state, created_at, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, 'QUEUED', $7, $7)
ON CONFLICT (chain_id, purpose) DO NOTHING`;

/** Facts of an order as the table has them: chain, purpose, recipient, data and value. */
export function orderFacts(chainId: bigint | string, { purpose, call, value = 0n }: Order) {
  return [String(chainId), purpose, call.to, Buffer.from(call.data.slice(2), 'hex'), String(value)];
}

/** Writes an order down, unless there is one for its purpose. */
export async function insertOrder(
  client: PoolClient,
  id: string,
  facts: ReturnType<typeof orderFacts>,
  nowMs: number,
): Promise<void> {
  await client.query(INSERT, [id, ...facts, new Date(nowMs).toISOString()]);
}
