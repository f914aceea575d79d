import type { CodeEntry } from './entry.ts';

/** Backbones, adapters, their files, and requests. */
export const MODELS_CODES = {
  // Backbones
  BACKBONE_UNSUPPORTED: {
    status: 400,
    meaning: 'The checkpoint uses something that cannot be served exactly.',
    fix: 'Use a checkpoint of a supported family without the named feature.',
  },
  BACKBONE_INVALID: {
    status: 400,
    meaning: 'The checkpoint is damaged or incomplete.',
    fix: 'Download the checkpoint again and compare the named file or tensor.',
  },
  BACKBONE_NOT_LOADED: {
    status: 503,
    meaning: 'The named backbone is not served here.',
    fix: 'Name a backbone from the `backbones` query.',
  },
  // Files
  FILE_MISSING: { status: 400, meaning: 'A needed file is missing.', fix: 'Provide the named file.' },
  FILE_TOO_LARGE: {
    status: 413,
    meaning: 'A file exceeds its size limit.',
    fix: 'Upload a smaller file, or ask the operator to raise the limit.',
  },
  SAFETENSORS_HEADER: {
    status: 400,
    meaning: 'The safetensors header is malformed.',
    fix: 'Write the file again with the safetensors library.',
  },
  SAFETENSORS_LAYOUT: {
    status: 400,
    meaning: 'Tensor offsets overlap, leave gaps or run past the end.',
    fix: 'Write the file again with the safetensors library.',
  },
  SAFETENSORS_DTYPE: {
    status: 400,
    meaning: 'A tensor has a data type that is not supported.',
    fix: 'Convert the tensors to F32, F16 or BF16.',
  },
  // Adapters
  ADAPTER_CONFIG_INVALID: {
    status: 400,
    meaning: 'adapter_config.json is malformed.',
    fix: 'Save the adapter again with PEFT.',
  },
  ADAPTER_UNSUPPORTED: {
    status: 400,
    meaning: 'The adapter uses a feature that cannot be served exactly.',
    fix: 'Retrain without the named feature.',
  },
  ADAPTER_TENSOR_UNKNOWN: {
    status: 400,
    meaning: 'A tensor belongs to no module of the backbone that can carry LoRA.',
    fix: 'Remove the tensor, or upload against the backbone that the adapter was trained on.',
  },
  ADAPTER_TENSOR_DUPLICATE: {
    status: 400,
    meaning: 'Two tensors name the same matrix.',
    fix: 'Keep one of them.',
  },
  ADAPTER_TENSOR_UNPAIRED: {
    status: 400,
    meaning: 'A module has A without B, or B without A.',
    fix: 'Save both matrices of every module.',
  },
  ADAPTER_SHAPE: {
    status: 400,
    meaning: 'A tensor does not fit the backbone or its rank.',
    fix: 'Upload against the backbone that the adapter was trained on.',
  },
  ADAPTER_RANK: {
    status: 400,
    meaning: 'The rank is out of range or contradicts the configuration.',
    fix: 'Use a rank within the configured maximum.',
  },
  ADAPTER_NOT_FINITE: {
    status: 400,
    meaning: 'A tensor contains NaN or Inf.',
    fix: 'Train again with a stable learning rate; do not export diverged weights.',
  },
  ADAPTER_NO_EFFECT: {
    status: 400,
    meaning: 'The adapter changes nothing.',
    fix: 'Upload a trained adapter: all of its B matrices are zero, or it does not change the logits.',
  },
  ADAPTER_BREAKS_OUTPUT: {
    status: 400,
    meaning: 'With this adapter the backbone gives logits that are not finite.',
    fix: 'Lower lora_alpha or retrain: the update overflows.',
  },
  ADAPTER_DUPLICATE: {
    status: 409,
    meaning: 'The adapter has a version with these weights already.',
    fix: 'Use the version that is named.',
  },
  ADAPTER_NOT_READY: {
    status: 409,
    meaning: 'The adapter version is not ready to serve.',
    fix: 'Wait until its state is READY, or read its rejection.',
  },
  ADAPTER_NOT_FOUND: {
    status: 404,
    meaning: 'No such adapter is visible to the caller.',
    fix: 'Check the name or id.',
  },
  ADAPTER_LOAD_FAILED: {
    status: 500,
    meaning: 'The stored adapter could not be loaded or no longer matches its digest.',
    fix: 'Upload it again; tell the operator.',
  },
  BLEND_INVALID: {
    status: 400,
    meaning: 'The blend is malformed.',
    fix: 'Use finite, non-zero weights within the bounds, and each adapter once.',
  },
  // Uploads
  UPLOAD_NOT_FOUND: {
    status: 404,
    meaning: 'No such upload, or its token is wrong or expired.',
    fix: 'Open a new upload.',
  },
  UPLOAD_STATE: {
    status: 409,
    meaning: 'The upload is not in a state that allows this.',
    fix: 'Read the upload state first.',
  },
  UPLOAD_INCOMPLETE: {
    status: 409,
    meaning: 'A file of the upload is not complete.',
    fix: 'Resume the file at its tus URL, then finalise again.',
  },
  UPLOAD_CHECKSUM: {
    status: 400,
    meaning: 'The bytes received do not match the checksum.',
    fix: 'Upload the file again.',
  },
  UPLOAD_LIMIT: {
    status: 429,
    meaning: 'The tenant has as many uploads open, or as many bytes declared in them, as it may.',
    fix: 'Finalise the uploads that are open and wait for their validation, or wait until they expire.',
  },
  // Inference
  PROMPT_EMPTY: { status: 400, meaning: 'The prompt has no tokens.', fix: 'Send a prompt or messages.' },
  PROMPT_TOO_LONG: {
    status: 400,
    meaning: 'Prompt plus max tokens exceed the context window.',
    fix: 'Shorten the prompt or lower maxTokens.',
  },
  SAMPLING_INVALID: {
    status: 400,
    meaning: 'A sampling parameter is out of range.',
    fix: 'Use a value within the documented range.',
  },
  TOKEN_OUT_OF_RANGE: {
    status: 400,
    meaning: 'A prompt token id is not in the vocabulary.',
    fix: 'Use ids from 0 to vocab_size - 1.',
  },
  CHAT_TEMPLATE: {
    status: 400,
    meaning: 'The messages could not be rendered by the chat template.',
    fix: 'Check roles and content, or send a raw prompt.',
  },
  ENGINE_FULL: {
    status: 429,
    meaning: 'The engine has no room for the request now.',
    fix: 'Retry after the given time.',
  },
  ENGINE_TOO_LARGE: {
    status: 400,
    meaning: 'The request can never fit in this engine.',
    fix: 'Shorten the prompt, lower maxTokens or use fewer adapters.',
  },
  ENGINE_FAILED: {
    status: 500,
    meaning: 'The engine failed while it ran the request.',
    fix: 'Retry: with the same idempotency key when nothing was metered, otherwise with a new one. Tell the operator if it persists.',
  },
  SLOW_CONSUMER: {
    status: 408,
    meaning: 'The client read too slowly and its buffer filled.',
    fix: 'Read faster; tokens delivered until then are metered.',
  },
  LEASE_LOST: {
    status: 503,
    meaning: 'This process lost the lease of the request; another one settled it.',
    fix: 'Query the request by its id for its outcome.',
  },
  SERVER_LOST: {
    status: 503,
    meaning:
      'The server that ran the request was lost; the request was settled from what may have been delivered.',
    fix: 'Retry: with the same idempotency key when nothing was metered, otherwise with a new one.',
  },
} as const satisfies Readonly<Record<string, CodeEntry>>;
