import { createHash, hash } from 'node:crypto';
import type { TensorInfo } from '../safetensors/header.ts';
import type { TensorSource } from '../safetensors/source.ts';
import type { AdapterConfig, PatternEntry } from './peft/config.ts';

const CHUNK_BYTES = 4 * 1024 * 1024;

/**
 * Content digest of an adapter version: lower-case hex SHA-256 of a UTF-8 text. Each line ends with one line feed
 * (0x0a). Integers are decimal without leading zeros. `f64` is the IEEE 754 double, big-endian, as 16 lower-case hex
 * digits. A name is its length in UTF-8 bytes, a colon and the name itself, so no name can imitate a line.
 *
 * ```
 * patchbay-adapter-version/1
 * backbone <backbone digest>
 * r <integer>
 * lora_alpha <f64>
 * use_rslora <0 or 1>
 * rank_pattern <number of entries>
 * <name> <integer>                                     one line per entry, in the order of the file
 * alpha_pattern <number of entries>
 * <name> <f64>                                         one line per entry, in the order of the file
 * tensors <number of tensors>
 * <name> <dtype> <sizes joined by ","> <hex SHA-256>   one line per tensor, by ascending UTF-8 bytes of the name
 * ```
 *
 * The order of pattern entries counts because PEFT takes the first that matches. Configuration that has no influence
 * on the output (dropout, paths, `target_modules`, which the tensors overrule) and the place of tensors in the file are
 * left out: the same adapter saved twice is the same version.
 */
export async function versionDigest(input: {
  readonly tensors: TensorSource;
  readonly config: AdapterConfig;
  readonly backboneDigest: string;
  /** Hashes already known, by tensor name; see {@link hashingTensors}. */
  readonly hashes?: ReadonlyMap<string, string>;
}): Promise<string> {
  const { config, tensors } = input;
  const digest = createHash('sha256');
  const line = (text: string): void => {
    digest.update(`${text}\n`, 'utf8');
  };
  const pattern = (
    field: string,
    entries: readonly PatternEntry[],
    format: (value: number) => string,
  ): void => {
    line(`${field} ${entries.length}`);
    for (const { pattern, value } of entries) line(`${name(pattern.key)} ${format(value)}`);
  };
  line('patchbay-adapter-version/1');
  line(`backbone ${input.backboneDigest}`);
  line(`r ${config.r}`);
  line(`lora_alpha ${float64(config.loraAlpha)}`);
  line(`use_rslora ${config.useRslora ? 1 : 0}`);
  pattern('rank_pattern', config.rankPattern, String);
  pattern('alpha_pattern', config.alphaPattern, float64);
  line(`tensors ${tensors.tensors.size}`);
  for (const info of [...tensors.tensors.values()].sort(byNameBytes)) {
    const contents = input.hashes?.get(info.name) ?? (await tensorHash(tensors, info));
    line(`${name(info.name)} ${info.dtype} ${info.shape.join(',')} ${contents}`);
  }
  return digest.digest('hex');
}

/** Wraps a source so that reading a whole tensor also hashes it: one pass over the file then serves both. */
export function hashingTensors(source: TensorSource): {
  readonly tensors: TensorSource;
  readonly hashes: ReadonlyMap<string, string>;
} {
  const hashes = new Map<string, string>();
  const readTensor = async (tensor: string): Promise<Uint8Array> => {
    const bytes = await source.readTensor(tensor);
    hashes.set(tensor, hash('sha256', bytes, 'hex'));
    return bytes;
  };
  return { tensors: { ...source, readTensor }, hashes };
}

async function tensorHash(tensors: TensorSource, info: TensorInfo): Promise<string> {
  const contents = createHash('sha256');
  for (let at = 0; at < info.bytes; at += CHUNK_BYTES) {
    contents.update(await tensors.readRange(info.name, at, Math.min(CHUNK_BYTES, info.bytes - at)));
  }
  return contents.digest('hex');
}

function name(text: string): string {
  return `${Buffer.byteLength(text, 'utf8')}:${text}`;
}

function float64(value: number): string {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes.toString('hex');
}

function byNameBytes(x: TensorInfo, y: TensorInfo): number {
  return Buffer.compare(Buffer.from(x.name, 'utf8'), Buffer.from(y.name, 'utf8'));
}
