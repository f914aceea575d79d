import { open } from 'node:fs/promises';
import { type Dtype, dtypeBytes } from './dtype.ts';

/** A tensor to write: its bytes come in chunks, so that a file may be larger than memory. */
export interface TensorToWrite {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly chunks: () => Iterable<Uint8Array>;
}

/** Writes a safetensors file. The chunks of every tensor must add up to its shape. */
export async function writeSafetensors(path: string, tensors: readonly TensorToWrite[]): Promise<void> {
  const header: Record<string, object> = {};
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    const bytes = shape.reduce((product, size) => product * size, dtypeBytes(dtype));
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const text = JSON.stringify(header);
  // The header is padded so that the data starts at a multiple of eight, as the library does.
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8, ' '), 'utf8');
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.byteLength));
  const file = await open(path, 'w');
  try {
    await file.writeFile(Buffer.concat([prefix, json]));
    for (const tensor of tensors) {
      for (const chunk of tensor.chunks()) await file.writeFile(chunk);
    }
  } finally {
    await file.close();
  }
}
