/** Bytes of one element of every data type of the safetensors format whose elements fill whole bytes. */
const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
  C64: 8,
} as const;

/** A data type as a safetensors header names it. */
export type Dtype = keyof typeof DTYPE_BYTES;

/** The data types whose values this program reads. */
export type FloatDtype = 'F32' | 'F16' | 'BF16';

/** Whether the text names a data type of the format. */
export function isDtype(text: string): text is Dtype {
  return Object.hasOwn(DTYPE_BYTES, text);
}

/** Whether tensors of this type can be converted by `toFloat32`. */
export function isFloatDtype(dtype: Dtype): dtype is FloatDtype {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16';
}

/** Bytes of one element. */
export function dtypeBytes(dtype: Dtype): number {
  return DTYPE_BYTES[dtype];
}
