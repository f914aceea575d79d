import type { FastifyInstance } from 'fastify';
import { PatchbayError } from '../kernel/errors.ts';
import type { SiteDocument } from './site.ts';

/** What is asked of the deployment. */
interface PublicSite {
  /** The log's id in hexadecimal. Throws where there is no log. */
  readonly logId: () => string;
  /** Null where the deployment uses no chain. */
  readonly site: (() => Promise<SiteDocument>) | null;
}

/** Tells everybody where the deployment's contracts are: docs/reference/proofs.md. */
export function registerChainRoute(fastify: FastifyInstance, { logId, site }: PublicSite): void {
  fastify.get('/log/v1/chain', async ({ query }, reply) => {
    reply.header('cache-control', 'no-store');
    const [unknown] = Object.keys(Object(query));
    if (unknown !== undefined) {
      throw new PatchbayError('BAD_INPUT', 'This address takes no parameters.', { field: unknown });
    }
    const log = logId();
    if (site === null) throw new PatchbayError('CHAIN_DISABLED', 'This deployment uses no chain.');
    const document = await site();
    reply.header('cache-control', 'public, max-age=1');
    return { format: 'patchbay-chain/1', log, ...document };
  });
}
