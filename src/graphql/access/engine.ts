import { type Principal, requireOperator } from '../../auth/principal.ts';
import type { Engine, EngineInfo, EngineStatus } from '../../engine/port.ts';
import type { MemoryReport } from '../../kernel/memory.ts';

/** The engine at one moment. */
export interface EngineSnapshot {
  readonly info: EngineInfo;
  readonly status: EngineStatus;
  readonly memory: MemoryReport & { readonly residentBytes: number };
}

/** The engine as a principal may look at it: its status shows the whole machine, so it is for operators. */
export class EngineAccess {
  readonly #engine: Pick<Engine, 'info' | 'status'>;
  readonly #memory: MemoryReport;
  readonly #residentBytes: () => number;

  constructor(dependencies: {
    readonly engine: Pick<Engine, 'info' | 'status'>;
    readonly memory: MemoryReport;
    /** Bytes that the process holds in memory now. */
    readonly residentBytes: () => number;
  }) {
    this.#engine = dependencies.engine;
    this.#memory = dependencies.memory;
    this.#residentBytes = dependencies.residentBytes;
  }

  /** Digest of the backbone that the engine runs; everybody may know it. */
  get backboneDigest(): string {
    return this.#engine.info.backboneDigest;
  }

  async status(principal: Principal): Promise<EngineSnapshot> {
    requireOperator(principal);
    const memory = { ...this.#memory, residentBytes: this.#residentBytes() };
    return { info: this.#engine.info, status: await this.#engine.status(), memory };
  }
}
