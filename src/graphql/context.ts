import type { Principal } from '../auth/principal.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Logger } from '../observability/logger.ts';
import { createLoaders, type Loaders } from './loaders.ts';
import type { GraphqlServices } from './services.ts';

/** What every resolver of one operation shares. Nothing in it outlives the operation. */
export interface GraphqlContext {
  readonly requestId: string;
  readonly log: Logger;
  /** Who is calling; undefined when no key was sent. */
  readonly principal: Principal | undefined;
  readonly services: GraphqlServices;
  /** Batch and remember reads as this principal, so they can never leak to another. */
  readonly loaders: Loaders;
  /** Fires when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** Makes the context of one operation. */
export function createGraphqlContext(options: {
  readonly requestId: string;
  readonly log: Logger;
  readonly principal: Principal | undefined;
  readonly services: GraphqlServices;
  readonly signal: AbortSignal;
}): GraphqlContext {
  return { ...options, loaders: createLoaders(options.principal, options.services) };
}

/** The caller, or `UNAUTHENTICATED`. What the caller may do is for the services to decide. */
export function requirePrincipal(context: GraphqlContext): Principal {
  if (context.principal) return context.principal;
  throw new PatchbayError('UNAUTHENTICATED', 'This field needs an API key, and none was sent.');
}
