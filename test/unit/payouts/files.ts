import { formatMoney } from '../../../src/kernel/money.ts';
import { sha256 } from '../../../src/payouts/payment-file.ts';

/** What a bank says of a payment. */
export interface Said {
  readonly key: string;
  readonly state: string;
  readonly amount: bigint;
  readonly reference?: string | null;
}

/** A file of results as a bank would write it. */
export function resultsFile(
  said: readonly Said[],
  options: { readonly hash?: boolean; readonly eol?: string } = {},
): string {
  const { hash = true, eol = '\r\n' } = options;
  const lines = said.map(({ key, state, amount, reference }) =>
    [key, state, formatMoney(amount), reference ?? ''].join(','),
  );
  const body = ['key,state,amount,reference', ...lines].map((line) => line + eol).join('');
  const total = said.reduce((sum, { amount }) => sum + amount, 0n);
  return `${body}TOTAL,${said.length},${formatMoney(total)},${hash ? sha256(body) : ''}${eol}`;
}
