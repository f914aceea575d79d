import { type Dtype, dtypeBytes } from '../../../src/safetensors/dtype.ts';

/** A tensor to put into a file made by {@link buildSafetensors}. */
export interface BuiltTensor {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** Header and data of a file: `header` is written as it is, valid or not. */
export function assemble(header: string, data: Uint8Array = new Uint8Array()): Uint8Array {
  const text = Buffer.from(header, 'utf8');
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(text.byteLength));
  return new Uint8Array(Buffer.concat([prefix, text, data]));
}

/** A valid file of the tensors in the given order. */
export function buildSafetensors(
  tensors: readonly BuiltTensor[],
  metadata?: Readonly<Record<string, string>>,
): Uint8Array {
  let at = 0;
  const entries = tensors.map(({ name, dtype, shape, data }) => {
    const entry = { dtype, shape, data_offsets: [at, at + data.byteLength] };
    at += data.byteLength;
    return `${JSON.stringify(name)}:${JSON.stringify(entry)}`;
  });
  if (metadata !== undefined) entries.unshift(`"__metadata__":${JSON.stringify(metadata)}`);
  return assemble(`{${entries.join(',')}}`, Buffer.concat(tensors.map((tensor) => tensor.data)));
}

/** An F32 tensor of the values. */
export function f32(name: string, shape: readonly number[], values: readonly number[]): BuiltTensor {
  return { name, dtype: 'F32', shape, data: new Uint8Array(Float32Array.from(values).buffer) };
}

/** An F32 tensor in which every value is the same. */
export function filled(name: string, shape: readonly number[], value: number): BuiltTensor {
  const elements = shape.reduce((product, size) => product * size, 1);
  return f32(name, shape, new Array<number>(elements).fill(value));
}

/** Zero bytes for a tensor of this type and shape. */
export function zeros(name: string, dtype: Dtype, shape: readonly number[]): BuiltTensor {
  const elements = shape.reduce((product, size) => product * size, 1);
  return { name, dtype, shape, data: new Uint8Array(elements * dtypeBytes(dtype)) };
}
