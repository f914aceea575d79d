import { type Principal, requireOperator } from '../../auth/principal.ts';
import type { Engine, EngineInfo, EngineStatus } from '../../engine/port.ts';

/** The engine at one moment. */
export interface EngineSnapshot {
  readonly info: EngineInfo;
  readonly status: EngineStatus;
}

/** The engine as a principal may look at it: its status shows the whole machine, so it is for operators. */
export class EngineAccess {
  readonly #engine: Pick<Engine, 'info' | 'status'>;

  constructor(dependencies: { readonly engine: Pick<Engine, 'info' | 'status'> }) {
    this.#engine = dependencies.engine;
  }

  /** Digest of the backbone that the engine runs; everybody may know it. */
  get backboneDigest(): string {
    return this.#engine.info.backboneDigest;
  }

  async status(principal: Principal): Promise<EngineSnapshot> {
    requireOperator(principal);
    return { info: this.#engine.info, status: await this.#engine.status() };
  }
}
