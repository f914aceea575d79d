import type { PriorityClass } from '../../kernel/priority.ts';
import type { Served } from './requests.ts';

/** What a process that serves a single adapter is started with, as its only argument in JSON. */
export interface ProcessJob {
  /** Folder of an imported backbone with merged weights, and the name of the backbone that it was made from. */
  readonly dir: string;
  readonly backbone: string;
  readonly maxContext: number;
  readonly rows: number;
  readonly threads: number;
}

/** From the parent. */
export type ProcessCommand =
  | {
      readonly kind: 'serve';
      readonly id: number;
      readonly promptIds: readonly number[];
      readonly newTokens: number;
      readonly priority: PriorityClass;
      /** When it was sent, in milliseconds since the epoch, with fractions. */
      readonly sentEpochMs: number;
    }
  | { readonly kind: 'memory' };

/** From the process. */
export type ProcessReply =
  | { readonly kind: 'ready' }
  | { readonly kind: 'served'; readonly id: number; readonly served: Served }
  | { readonly kind: 'failed'; readonly id: number; readonly message: string }
  | { readonly kind: 'memory'; readonly rssBytes: number; readonly privateBytes: number };
