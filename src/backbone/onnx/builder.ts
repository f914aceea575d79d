import {
  type Attribute,
  type GraphSpec,
  type InitializerSpec,
  MS_DOMAIN,
  type NodeSpec,
  type ValueSpec,
} from './proto.ts';

/** Collects the nodes, inputs and initializers of a graph under construction. */
export class GraphBuilder {
  readonly #nodes: NodeSpec[] = [];
  readonly #inputs: ValueSpec[] = [];
  readonly #outputs: ValueSpec[] = [];
  readonly #initializers = new Map<string, InitializerSpec>();
  readonly #shared = new Map<string, string>();
  #counter = 0;

  input(name: string, type: ValueSpec['type'], dims: ValueSpec['dims']): string {
    this.#inputs.push({ name, type, dims });
    return name;
  }

  output(name: string, type: ValueSpec['type'], dims: ValueSpec['dims']): string {
    this.#outputs.push({ name, type, dims });
    return name;
  }

  initializer(spec: InitializerSpec): string {
    this.#initializers.set(spec.name, spec);
    return spec.name;
  }

  /** A small constant of 64-bit integers, shared when it was made before. */
  ints(values: readonly number[]): string {
    const name = `const_${values.join('_')}`;
    if (!this.#initializers.has(name)) {
      const data = BigInt64Array.from(values.map(BigInt));
      const inline = new Uint8Array(data.buffer);
      this.initializer({ name, type: 'int64', dims: [values.length], data: { inline } });
    }
    return name;
  }

  /** A scalar constant. */
  float(name: string, value: number): string {
    const inline = new Uint8Array(Float32Array.of(value).buffer);
    return this.initializer({ name, type: 'float32', dims: [], data: { inline } });
  }

  /** A scalar constant. */
  byte(name: string, value: number): string {
    return this.initializer({ name, type: 'uint8', dims: [], data: { inline: Uint8Array.of(value) } });
  }

  /** A `[1, width]` constant of float zeros. */
  zeroRow(width: number): string {
    const inline = new Uint8Array(width * Float32Array.BYTES_PER_ELEMENT);
    return this.initializer({ name: `zeros_${width}`, type: 'float32', dims: [1, width], data: { inline } });
  }

  /** Adds a node with one output. */
  op(
    op: string,
    inputs: readonly string[],
    attributes: Record<string, Attribute> = {},
    output?: string,
  ): string {
    const name = output ?? this.#fresh(op);
    this.#add('', op, inputs, attributes, [name]);
    return name;
  }

  /** Adds a node of ONNX Runtime's own domain with one output. */
  msOp(op: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}): string {
    const name = this.#fresh(op);
    this.#add(MS_DOMAIN, op, inputs, attributes, [name]);
    return name;
  }

  /** What `make` adds, made once for each key: a value that several nodes read. */
  once(key: string, make: () => string): string {
    const known = this.#shared.get(key);
    if (known !== undefined) return known;
    const made = make();
    this.#shared.set(key, made);
    return made;
  }

  /** Splits along an axis: into `parts` equal parts, or at the sizes that the named tensor states. */
  split(input: string, axis: number, parts: number, sizes?: string): readonly string[] {
    const names = Array.from({ length: parts }, () => this.#fresh('Split'));
    const attributes: Record<string, Attribute> = { axis: { int: axis } };
    if (sizes === undefined) attributes['num_outputs'] = { int: parts };
    this.#add('', 'Split', sizes === undefined ? [input] : [input, sizes], attributes, names);
    return names;
  }

  /** `sum = a + b; normed = rmsNorm(sum) * scale` in one node. */
  skipRmsNorm(a: string, b: string, scale: string, epsilon: number): { normed: string; sum: string } {
    const normed = this.#fresh('SkipNorm');
    const sum = this.#fresh('Residual');
    const attributes = { epsilon: { float: epsilon } };
    this.#add(MS_DOMAIN, 'SkipSimplifiedLayerNormalization', [a, b, scale], attributes, [
      normed,
      '',
      '',
      sum,
    ]);
    return { normed, sum };
  }

  reshape(input: string, dims: readonly number[]): string {
    return this.op('Reshape', [input, this.ints(dims)]);
  }

  transpose(input: string, permutation: readonly number[]): string {
    return this.op('Transpose', [input], { perm: { ints: permutation } });
  }

  build(): GraphSpec {
    return {
      nodes: this.#nodes,
      inputs: this.#inputs,
      outputs: this.#outputs,
      initializers: [...this.#initializers.values()],
    };
  }

  #add(
    domain: string,
    op: string,
    inputs: readonly string[],
    attributes: Record<string, Attribute>,
    outputs: readonly string[],
  ): void {
    this.#nodes.push({ op, domain, inputs, outputs, attributes });
  }

  #fresh(hint: string): string {
    this.#counter += 1;
    return `${hint.toLowerCase()}_${this.#counter}`;
  }
}
