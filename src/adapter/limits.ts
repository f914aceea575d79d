import { ADAPTER_HEADER_LIMITS, type SafetensorsLimits } from '../safetensors/header.ts';

/** Bounds on an adapter, in one place. */
export interface AdapterLimits {
  /** Largest rank of any module. */
  readonly maxRank: number;
  readonly maxConfigBytes: number;
  /** Largest adapter_model.safetensors. */
  readonly maxTensorsBytes: number;
  readonly header: SafetensorsLimits;
}

export const DEFAULT_ADAPTER_LIMITS: AdapterLimits = {
  maxRank: 128,
  maxConfigBytes: 256 * 1024,
  maxTensorsBytes: 1024 ** 3,
  header: ADAPTER_HEADER_LIMITS,
};

/** Bounds on what a tenant may have under way at once: uploads that are open, or whose version is being validated. */
export interface UploadQuota {
  readonly maxOpenUploads: number;
  /** Declared bytes of these uploads together. One upload alone is bound by {@link AdapterLimits} instead. */
  readonly maxOpenBytes: number;
}

export const DEFAULT_UPLOAD_QUOTA: UploadQuota = {
  maxOpenUploads: 100,
  maxOpenBytes: 16 * 1024 ** 3,
};

/** The two files of an adapter, by the names that PEFT gives them. */
export const CONFIG_FILE = 'adapter_config.json';
export const TENSORS_FILE = 'adapter_model.safetensors';
export const ADAPTER_FILES = [CONFIG_FILE, TENSORS_FILE] as const;
export type AdapterFileName = (typeof ADAPTER_FILES)[number];

/** Whether the text is one of the two names. */
export function isAdapterFileName(text: string): text is AdapterFileName {
  return text === CONFIG_FILE || text === TENSORS_FILE;
}
