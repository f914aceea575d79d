import { type Actor, requireOperatorScope } from '../auth/principal.ts';
import type { Database } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { reconcile } from './reconcile.ts';
import type { ReconciliationReport, ReconciliationScope } from './types.ts';

/** Longest period of one report: a leap year. */
const PERIOD_DAYS_MAX = 366;
const DAY_MS = 24 * 3_600_000;

/** Reconciles periods for operators. */
export class ReconciliationService {
  readonly #database: Pick<Database, 'withSystemPg'>;

  constructor(dependencies: { readonly database: Pick<Database, 'withSystemPg'> }) {
    this.#database = dependencies.database;
  }

  /** What does not agree in a period, of a tenant or of everybody. */
  async report(actor: Actor, scope: ReconciliationScope): Promise<ReconciliationReport> {
    requireOperatorScope(actor, 'billing:read');
    const days = (scope.to.getTime() - scope.from.getTime()) / DAY_MS;
    if (!(days > 0 && days <= PERIOD_DAYS_MAX)) {
      throw new PatchbayError(
        'BAD_INPUT',
        `\`to\` must be after \`from\`, by at most ${PERIOD_DAYS_MAX} days.`,
        {
          field: 'to',
        },
      );
    }
    return reconcile(this.#database, scope);
  }
}
