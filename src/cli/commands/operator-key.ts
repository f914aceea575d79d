import { randomBytes, randomUUID } from 'node:crypto';
import { resolveSecret } from '../../config/index.ts';
import { systemClock } from '../../kernel/clock.ts';
import { EXIT } from '../exit-codes.ts';
import type { CliIo } from '../io.ts';
import { withOfflineDatabase } from '../offline-database.ts';

/** What the command line says. */
export interface OperatorKeyFlags {
  readonly scope: readonly string[];
  readonly json: boolean;
}

/**
 * Makes an operator's key that comes from no other key, and prints it alone on its line. A key that another key made counts
 * as its maker's, so a second person needs one that was made here, by whoever holds the machine.
 */
export async function issueOperatorKey(io: CliIo, name: string, flags: OperatorKeyFlags): Promise<number> {
  const { config } = io.loadConfig();
  const { SYSTEM_ACTOR } = await import('../../auth/principal.ts');
  const { PLATFORM_TENANT_ID } = await import('../../db/platform.ts');
  const { ApiKeyService } = await import('../../tenant/api-keys.ts');
  const pepper = await resolveSecret(config.data);
  const { secret } = await withOfflineDatabase(config.data, 'keys', (database) =>
    new ApiKeyService({ pepper }, { database, clock: systemClock, randomBytes }).create(SYSTEM_ACTOR, {
      idempotencyKey: randomUUID(),
      tenantId: PLATFORM_TENANT_ID,
      name,
      scopes: flags.scope.length === 0 ? null : flags.scope,
      expiresAt: null,
    }),
  );
  io.out(flags.json ? `${JSON.stringify({ operator: secret })}\n` : `${secret}\n`);
  return EXIT.ok;
}
