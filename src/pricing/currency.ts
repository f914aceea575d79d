import type { PoolClient } from 'pg';
import type { Tx } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';

/** The currency of the installation; null before its first price. */
export async function currencyOf(tx: Tx): Promise<string | null> {
  const first = await tx.priceVersion.findFirst({ select: { currency: true } });
  return first?.currency ?? null;
}

/** The currency of the installation; `PRICE_MISSING` before its first price, which decides it. */
export async function requireCurrency(tx: Tx): Promise<string> {
  return known(await currencyOf(tx));
}

/** {@link requireCurrency} on a plain connection. */
export async function requireCurrencyPg(client: PoolClient): Promise<string> {
  const text = 'SELECT currency FROM price_version LIMIT 1';
  const { rows } = await client.query<{ readonly currency: string }>(text);
  return known(rows[0]?.currency ?? null);
}

function known(currency: string | null): string {
  if (currency !== null) return currency;
  throw new PatchbayError(
    'PRICE_MISSING',
    'This installation has no currency yet: its first price decides it.',
    { fix: 'Set a price first.' },
  );
}
