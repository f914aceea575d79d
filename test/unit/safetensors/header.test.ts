import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import type { Dtype } from '../../../src/safetensors/dtype.ts';
import { dtypeBytes } from '../../../src/safetensors/dtype.ts';
import { ADAPTER_HEADER_LIMITS } from '../../../src/safetensors/header.ts';
import { bytesSource, readSafetensors } from '../../../src/safetensors/source.ts';
import { assemble, type BuiltTensor, buildSafetensors, zeros } from './build.ts';

const open = (bytes: Uint8Array, limits = ADAPTER_HEADER_LIMITS) =>
  readSafetensors(bytesSource(bytes), limits);

const entry = (dtype: string, shape: unknown, begin: unknown, end: unknown): string =>
  `{"dtype":"${dtype}","shape":${JSON.stringify(shape)},"data_offsets":${JSON.stringify([begin, end])}}`;

const DTYPES: readonly Dtype[] = ['F32', 'F16', 'BF16', 'I64', 'U8', 'BOOL', 'F64'];

const tensorsArbitrary: fc.Arbitrary<readonly BuiltTensor[]> = fc.uniqueArray(
  fc
    .record({
      name: fc
        .string({ unit: 'grapheme', minLength: 1, maxLength: 30 })
        .filter((name) => name !== '__metadata__'),
      dtype: fc.constantFrom(...DTYPES),
      shape: fc.array(fc.nat(5), { maxLength: 3 }),
      fill: fc.nat(255),
    })
    .map(({ name, dtype, shape, fill }) => ({
      name,
      dtype,
      shape,
      data: new Uint8Array(shape.reduce((x, y) => x * y, 1) * dtypeBytes(dtype)).fill(fill),
    })),
  { selector: (tensor) => tensor.name, maxLength: 8 },
);

describe('readSafetensors', () => {
  it('returns every valid file as it was written', async () => {
    await fc.assert(
      fc.asyncProperty(
        tensorsArbitrary,
        fc.dictionary(fc.string(), fc.string()),
        async (tensors, metadata) => {
          const source = await open(buildSafetensors(tensors, metadata));
          expect(source.tensors.size).toBe(tensors.length);
          for (const { name, dtype, shape, data } of tensors) {
            expect(source.tensors.get(name)).toMatchObject({ dtype, shape, bytes: data.byteLength });
            expect(await source.readTensor(name)).toEqual(data);
            const half = Math.floor(data.byteLength / 2);
            expect(await source.readRange(name, half, data.byteLength - half)).toEqual(data.slice(half));
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('answers a damaged file with a coded error or a consistent layout, never with a crash', async () => {
    const mutation = fc.record({
      at: fc.nat(400),
      value: fc.nat(255),
      kind: fc.constantFrom('set', 'cut', 'insert'),
    });
    await fc.assert(
      fc.asyncProperty(
        tensorsArbitrary,
        fc.array(mutation, { minLength: 1, maxLength: 4 }),
        async (tensors, edits) => {
          let bytes = buildSafetensors(tensors, { format: 'pt' });
          for (const { at, value, kind } of edits) {
            const place = at % Math.max(bytes.byteLength, 1);
            if (kind === 'set') bytes[place] = value;
            else if (kind === 'cut') bytes = bytes.slice(0, place);
            else bytes = Uint8Array.from([...bytes.slice(0, place), value, ...bytes.slice(place)]);
          }
          try {
            const source = await open(bytes);
            for (const name of source.tensors.keys()) await source.readTensor(name);
          } catch (error) {
            expect(error).toBeInstanceOf(PatchbayError);
            expect(['SAFETENSORS_HEADER', 'SAFETENSORS_LAYOUT', 'SAFETENSORS_DTYPE']).toContain(
              error instanceof PatchbayError ? error.code : '',
            );
          }
        },
      ),
      { numRuns: 3_000 },
    );
  });

  it.each([
    ['an empty file', new Uint8Array()],
    ['seven bytes', new Uint8Array(7)],
    ['a length of zero', assemble('')],
    ['a length beyond the file', Uint8Array.from([255, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d])],
    ['a length of 2^64-1', Uint8Array.from([255, 255, 255, 255, 255, 255, 255, 255, 0x7b, 0x7d])],
    ['a leading space', assemble(' {}')],
    ['an array', assemble('[]')],
    [
      'a name twice',
      assemble(`{"a":${entry('U8', [1], 0, 1)},"a":${entry('U8', [1], 0, 1)}}`, new Uint8Array(1)),
    ],
    [
      'a key twice in an entry',
      assemble('{"a":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}'),
    ],
    ['an unknown key', assemble('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}}')],
    ['a missing dtype', assemble('{"a":{"shape":[0],"data_offsets":[0,0]}}')],
    ['a missing shape', assemble('{"a":{"dtype":"U8","data_offsets":[0,0]}}')],
    ['a shape that is a number', assemble(`{"a":${entry('U8', 1, 0, 1)}}`, new Uint8Array(1))],
    ['a negative size', assemble(`{"a":${entry('U8', [-1], 0, 0)}}`)],
    ['a fraction', assemble('{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}', new Uint8Array(1))],
    ['three offsets', assemble('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}}')],
    ['one offset', assemble('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0]}}')],
    ['negative offsets', assemble(`{"a":${entry('U8', [0], -1, -1)}}`)],
    ['a size beyond 2^53', assemble('{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,0]}}')],
    ['metadata that is no text', assemble('{"__metadata__":{"a":1}}')],
    ['metadata that is a list', assemble('{"__metadata__":[]}')],
    ['an empty name', assemble(`{"":${entry('U8', [0], 0, 0)}}`)],
    ['deep nesting', assemble(`{"a":${'['.repeat(10_000)}`)],
    [
      'seventeen dimensions',
      assemble(`{"a":${entry('U8', new Array(17).fill(1), 0, 1)}}`, new Uint8Array(1)),
    ],
  ])('refuses %s as a malformed header', async (_what, bytes) => {
    await expect(open(bytes)).rejects.toMatchObject({ code: 'SAFETENSORS_HEADER' });
  });

  it.each([
    ['overlap', `{"a":${entry('U8', [2], 0, 2)},"b":${entry('U8', [2], 1, 3)}}`, 3],
    ['the same place twice', `{"a":${entry('U8', [2], 0, 2)},"b":${entry('U8', [2], 0, 2)}}`, 2],
    ['a gap at the start', `{"a":${entry('U8', [2], 1, 3)}}`, 3],
    ['a gap between', `{"a":${entry('U8', [1], 0, 1)},"b":${entry('U8', [1], 2, 3)}}`, 3],
    ['bytes left over', `{"a":${entry('U8', [1], 0, 1)}}`, 2],
    ['no tensors but bytes', '{}', 1],
    ['an end past the file', `{"a":${entry('U8', [9], 0, 9)}}`, 3],
    ['an end before the begin', `{"a":${entry('U8', [0], 2, 1)}}`, 2],
    ['a shape that needs fewer bytes', `{"a":${entry('F32', [1], 0, 8)}}`, 8],
    ['a product that overflows', `{"a":${entry('U8', [4294967296, 4294967296], 0, 0)}}`, 0],
    ['an overflow hidden by a zero', `{"a":${entry('U8', [4294967296, 4294967296, 0], 0, 0)}}`, 0],
    ['a product times size that overflows', `{"a":${entry('F64', [4503599627370496], 0, 0)}}`, 0],
  ])('refuses %s as an invalid layout', async (_what, header, dataBytes) => {
    await expect(open(assemble(header, new Uint8Array(dataBytes)))).rejects.toMatchObject({
      code: 'SAFETENSORS_LAYOUT',
    });
  });

  it('refuses an unknown data type by name', async () => {
    await expect(open(assemble(`{"a":${entry('F13', [0], 0, 0)}}`))).rejects.toMatchObject({
      code: 'SAFETENSORS_DTYPE',
      message: expect.stringContaining('F13'),
    });
  });

  it('refuses a header over the limit before it reads it', async () => {
    const limits = { ...ADAPTER_HEADER_LIMITS, maxHeaderBytes: 10 };
    await expect(open(buildSafetensors([zeros('a', 'U8', [1])]), limits)).rejects.toMatchObject({
      code: 'SAFETENSORS_HEADER',
      meta: { limitBytes: 10 },
    });
  });

  it('refuses more tensors than allowed', async () => {
    const tensors = [zeros('a', 'U8', [1]), zeros('b', 'U8', [1])];
    await expect(
      open(buildSafetensors(tensors), { ...ADAPTER_HEADER_LIMITS, maxTensors: 1 }),
    ).rejects.toMatchObject({
      code: 'SAFETENSORS_HEADER',
    });
  });

  it('accepts trailing spaces, as writers pad the header to eight bytes', async () => {
    expect((await open(assemble('{}      '))).tensors.size).toBe(0);
  });

  it('keeps names such as __proto__ as names', async () => {
    const source = await open(
      buildSafetensors([zeros('__proto__', 'U8', [2]), zeros('toString', 'U8', [1])]),
    );
    expect([...source.tensors.keys()]).toEqual(['__proto__', 'toString']);
  });
});
