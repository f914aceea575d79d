import type { Uuid } from '../../../src/kernel/ids.ts';

/** An admission as `charge_budgets` takes it. */
export interface Charge {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly keyId: Uuid;
  readonly amount: bigint;
  /** Amounts by adapter. */
  readonly adapters?: Readonly<Record<Uuid, bigint>>;
}

/** The end of an admission: what it did cost. */
export interface Ending {
  readonly id: Uuid;
  readonly amount: bigint;
  readonly adapters?: Readonly<Record<Uuid, bigint>>;
}

/** An admission that does not fit. */
export interface Refusal {
  readonly request_id: Uuid;
  readonly budget_id: Uuid;
  readonly scope: string;
  readonly subject_id: Uuid | null;
  readonly period: string;
  readonly start: Date;
  readonly limit_nano: string;
  readonly spent_nano: string;
  readonly held_nano: string;
  readonly amount_nano: string;
}

const amounts = (adapters: Readonly<Record<Uuid, bigint>> = {}) =>
  Object.fromEntries(Object.entries(adapters).map(([id, amount]) => [id, amount.toString()]));

/** The statement that charges and ends, and its values. */
export function chargeStatement(charges: readonly Charge[], endings: readonly Ending[] = []) {
  return {
    text: 'SELECT * FROM patchbay.charge_budgets($1::jsonb, $2::jsonb)',
    values: [
      JSON.stringify(
        charges.map(({ id, tenantId, keyId, amount, adapters }, index) => ({
          ord: index + 1,
          id,
          tenant_id: tenantId,
          key_id: keyId,
          amount: amount.toString(),
          adapters: amounts(adapters),
        })),
      ),
      JSON.stringify(
        endings.map(({ id, amount, adapters }) => ({
          id,
          amount: amount.toString(),
          adapters: amounts(adapters),
        })),
      ),
    ],
  };
}

/** Numbers below the bound, the same ones for the same seed (a linear congruential generator). */
export function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
