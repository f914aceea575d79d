import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DEFAULT_ADAPTER_LIMITS } from '../../adapter/limits.ts';
import { loadLoraWeights } from '../../adapter/loader.ts';
import { FsBlobStore } from '../../adapter/store/fs.ts';
import { invariant } from '../../kernel/errors.ts';
import { mergedTensors, openMergeBase, writeMerged } from './merge.ts';
import type { ProcessCommand, ProcessJob, ProcessReply } from './process-protocol.ts';
import type { DiversityRequest, Served } from './requests.ts';
import type { SwapServerOptions } from './swap.ts';

interface Pending {
  readonly resolve: (served: Served) => void;
  readonly reject: (error: Error) => void;
}

interface ProcessMemory {
  readonly rssBytes: number;
  readonly privateBytes: number;
}

/** The alternative that needs no engine for adapters at all: a process with merged weights for each of them. */
export class AdapterProcesses {
  readonly #folder: string;
  readonly #children: ChildProcess[] = [];
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Merges the first adapters of the store, and starts a process for each; they share the cores evenly. */
  static async create(options: SwapServerOptions & { backboneName: string; count: number }) {
    const { backbone, store, count } = options;
    const { shape, digest: backboneDigest } = backbone.manifest;
    const processes = new AdapterProcesses(await mkdtemp(join(tmpdir(), 'patchbay-processes-')));
    const base = await openMergeBase(options.checkpointDir);
    const context = { shape, backboneDigest, limits: DEFAULT_ADAPTER_LIMITS };
    const blobs = new FsBlobStore({ root: store.root });
    for (let adapter = 0; adapter < count; adapter++) {
      const weights = await loadLoraWeights(blobs, store.digests[adapter] ?? '', context);
      const dir = join(processes.#folder, String(adapter));
      await writeMerged(backbone, base, mergedTensors(base, weights), dir);
      await processes.#start({
        dir,
        backbone: options.backboneName,
        maxContext: options.maxContext,
        rows: options.rows,
        // More threads than cores would spin against each other.
        threads: Math.max(1, Math.floor(availableParallelism() / count)),
      });
    }
    await base.checkpoint.close();
    return processes;
  }

  async #start(job: ProcessJob): Promise<void> {
    const path = fileURLToPath(new URL('./serve-one.js', import.meta.url));
    const child = fork(path, [JSON.stringify(job)], { serialization: 'advanced' });
    this.#children.push(child);
    const ready = new Promise<void>((resolve, reject) => {
      child.on('message', (message: ProcessReply) => {
        if (message.kind === 'ready') resolve();
        else this.#settle(message);
      });
      child.on('exit', (code) => {
        const error = new Error(`A process of one adapter ended with code ${code}.`);
        reject(error);
        for (const pending of this.#pending.values()) pending.reject(error);
      });
    });
    await ready;
  }

  #settle(message: Exclude<ProcessReply, { kind: 'ready' }>): void {
    if (message.kind === 'memory') return;
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (message.kind === 'served') pending?.resolve(message.served);
    else pending?.reject(new Error(message.message));
  }

  serve({ adapter, promptIds, newTokens, priority }: DiversityRequest): Promise<Served> {
    const id = this.#nextId++;
    const sentEpochMs = performance.timeOrigin + performance.now();
    this.#send(adapter, { kind: 'serve', id, promptIds, newTokens, priority, sentEpochMs });
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }));
  }

  #send(adapter: number, command: ProcessCommand): void {
    const child = this.#children[adapter];
    invariant(child !== undefined, `adapter ${adapter} has a process`);
    child.send(command);
  }

  /** Memory of every process. */
  async memory(): Promise<readonly ProcessMemory[]> {
    const all: ProcessMemory[] = [];
    for (const [adapter, child] of this.#children.entries()) {
      const answer = new Promise<ProcessMemory>((resolve) => {
        const listen = (message: ProcessReply): void => {
          if (message.kind !== 'memory') return;
          child.off('message', listen);
          resolve(message);
        };
        child.on('message', listen);
      });
      this.#send(adapter, { kind: 'memory' });
      all.push(await answer);
    }
    return all;
  }

  async close(): Promise<void> {
    for (const child of this.#children) {
      child.removeAllListeners('exit');
      const ended = once(child, 'exit');
      child.disconnect();
      await ended;
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}
