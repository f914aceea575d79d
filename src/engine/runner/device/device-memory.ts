import { type InferenceSession, Tensor } from 'onnxruntime-node';
import { nextName, pageInputName, REARRANGE_INPUTS } from '../../../kernel/device.ts';
import { invariant } from '../../../kernel/errors.ts';
import type { BankTensor } from '../../../kernel/graph.ts';
import { type Feeds, int64 } from './feeds.ts';
import type { BankChange } from './page-slots.ts';

/** A tensor that lives on the device, by the name of the graph input that it feeds. */
interface DeviceTensor {
  readonly name: string;
  /** Shape of one place. */
  readonly dims: readonly number[];
}

/**
 * Tensors that stay on the device between runs. A run returns changed ones as new tensors, which replace the old; the
 * old are freed then, so a run that fails changes nothing.
 */
export class DeviceMemory {
  readonly #session: InferenceSession;
  readonly #specs: readonly DeviceTensor[];
  #tensors: Feeds;
  #places = 0;

  /** @param session the graph that rearranges these tensors */
  constructor(session: InferenceSession, specs: readonly DeviceTensor[]) {
    this.#session = session;
    this.#specs = specs;
    // One place of zeros on the host, from which the first rearrangement makes all on the device.
    this.#tensors = Object.fromEntries(
      specs.map(({ name, dims }) => {
        const size = dims.reduce((product, dim) => product * dim, 1);
        return [name, new Tensor('float32', new Float32Array(size), [1, ...dims])];
      }),
    );
  }

  get feeds(): Feeds {
    return this.#tensors;
  }

  get locations(): readonly string[] {
    return Object.values(this.#tensors).map(({ location }) => location);
  }

  /** Makes at least this many places; new ones hold zeros. */
  async grow(places: number): Promise<void> {
    if (places > this.#places) await this.#rearrange(places, {});
  }

  /** Loads pages into a bank. */
  async load(change: BankChange, tensors: readonly BankTensor[]): Promise<void> {
    const { writes, capacity } = change;
    if (writes.length === 0 && this.#places > 0) return;
    // Writing zeros to the zero slot is how a bank comes into being without a page.
    const slots = writes.length === 0 ? [0] : writes.map(({ slot }) => slot);
    const feeds: Feeds = { [REARRANGE_INPUTS.writeIndex]: int64(slots, [slots.length, 1]) };
    for (const { name, rows, columns, offset } of tensors) {
      const size = rows * columns;
      const values = new Float32Array(slots.length * size);
      writes.forEach(({ data }, index) => {
        values.set(data.subarray(offset, offset + size), index * size);
      });
      feeds[pageInputName(name)] = new Tensor('float32', values, [slots.length, rows, columns]);
    }
    await this.#rearrange(capacity, feeds);
  }

  async #rearrange(places: number, feeds: Feeds): Promise<void> {
    const kept = Array.from({ length: places }, (_, place) => (place < this.#places ? place : 0));
    const keep = int64(kept, [places]);
    this.replace(await this.#session.run({ ...this.#tensors, ...feeds, [REARRANGE_INPUTS.keep]: keep }));
    this.#places = places;
  }

  /** Takes the changed tensors out of a run's outputs. */
  replace(outputs: InferenceSession.OnnxValueMapType): void {
    const old = this.#tensors;
    this.#tensors = Object.fromEntries(
      this.#specs.map(({ name }) => {
        const tensor = outputs[nextName(name)];
        invariant(tensor?.location === 'gpu-buffer', `${name} stays on the device`);
        return [name, tensor];
      }),
    );
    for (const tensor of Object.values(old)) tensor.dispose();
  }

  async dispose(): Promise<void> {
    for (const tensor of Object.values(this.#tensors)) tensor.dispose();
    await this.#session.release();
  }
}
