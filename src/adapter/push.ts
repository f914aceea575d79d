import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { Upload } from 'tus-js-client';
import { z } from 'zod';
import { isErrorCode } from '../kernel/codes.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { adapterFolderFiles } from './folder.ts';
import { ADAPTER_FILES } from './limits.ts';

/** What to push and where to. */
interface PushOptions {
  /** Folder in PEFT's layout. */
  readonly dir: string;
  /** Name of the adapter under the caller's tenant. */
  readonly name: string;
  /** Of GraphQL, such as `http://127.0.0.1:4000/graphql`. */
  readonly url: string;
  /** API key. */
  readonly key: string;
  /** Global id of the backbone; absent for the one that the server serves. */
  readonly backbone?: string;
  /** Wait until the version is READY or REJECTED. */
  readonly wait: boolean;
  /** Makes a repeated push the same push. */
  readonly idempotencyKey?: string;
  readonly signal?: AbortSignal;
  readonly progress?: PushProgress;
}

/** Shows steps to a person; the part of `Progress` of src/observability that a push needs. */
interface PushProgress {
  start(label: string): {
    update(done: number, total: number, unit: 'bytes'): void;
    done(note?: string): void;
    fail(): void;
  };
}

/** What became of a push. */
interface PushedVersion {
  /** Global id. */
  readonly versionId: string;
  readonly number: number;
  readonly state: 'UPLOADING' | 'VALIDATING' | 'READY' | 'REJECTED' | 'RETIRED';
  readonly digest: string | null;
  readonly rejection: { readonly code: string; readonly message: string; readonly fix: string } | null;
}

const VERSION_FIELDS = 'id number state digest rejection { code message fix }';
const POLL_MS = 300;
const CHUNK_BYTES = 8 * 1024 * 1024;

const userErrors = z.array(
  z.object({
    code: z.string(),
    message: z.string(),
    fix: z.string().optional(),
    field: z.string().nullable().optional(),
  }),
);
const version = z.object({
  id: z.string(),
  number: z.number(),
  state: z.enum(['UPLOADING', 'VALIDATING', 'READY', 'REJECTED', 'RETIRED']),
  digest: z.string().nullable(),
  rejection: z.object({ code: z.string(), message: z.string(), fix: z.string() }).nullable(),
});
const opened = z.object({
  openAdapterUpload: z.object({
    upload: z.object({ id: z.string() }).nullable(),
    targets: z.array(z.object({ name: z.string(), url: z.string(), token: z.string() })).nullable(),
    userErrors,
  }),
});
const finalized = z.object({ finalizeAdapterUpload: z.object({ version: version.nullable(), userErrors }) });
const watched = z.object({ adapterVersion: version.nullable() });

/** Uploads an adapter folder: opens an upload, sends both files resumably, finalises, and waits if asked to. */
export async function pushAdapter(options: PushOptions): Promise<PushedVersion> {
  const key = options.idempotencyKey ?? randomUUID();
  const files = await readFiles(options.dir);
  const open = await call(
    options,
    `mutation Open($input: OpenAdapterUploadInput!) {
      openAdapterUpload(input: $input) {
        upload { id } targets { name url token } userErrors { code message fix field }
      }
    }`,
    {
      input: {
        idempotencyKey: key,
        name: options.name,
        ...(options.backbone === undefined ? {} : { backbone: options.backbone }),
        files: files.map(({ name, bytes, sha256 }) => ({ name, size: String(bytes), sha256 })),
      },
    },
    opened,
  );
  const { upload, targets } = open.openAdapterUpload;
  failOn(open.openAdapterUpload.userErrors);
  if (upload === null || targets === null) throw malformed();

  await withStep(options, `Sending ${options.name}`, async (update) => {
    const total = files.reduce((sum, file) => sum + file.bytes, 0);
    let done = 0;
    for (const file of files) {
      const target = targets.find(({ name }) => name === file.name);
      if (target === undefined) throw malformed();
      await sendFile(file, target, options, (sent) => update(done + sent, total));
      done += file.bytes;
      update(done, total);
    }
  });

  const end = await call(
    options,
    `mutation Finalize($input: FinalizeAdapterUploadInput!) {
      finalizeAdapterUpload(input: $input) { version { ${VERSION_FIELDS} } userErrors { code message fix field } }
    }`,
    { input: { idempotencyKey: `${key}/finalize`, upload: upload.id } },
    finalized,
  );
  failOn(end.finalizeAdapterUpload.userErrors);
  const made = end.finalizeAdapterUpload.version;
  if (made === null) throw malformed();
  return toPushed(options.wait ? await withStep(options, 'Validating', () => waitFor(made, options)) : made);
}

function toPushed({ id, ...rest }: z.infer<typeof version>): PushedVersion {
  return { versionId: id, ...rest };
}

async function withStep<T>(
  { progress }: PushOptions,
  label: string,
  work: (update: (done: number, total: number) => void) => Promise<T>,
): Promise<T> {
  const step = progress?.start(label);
  try {
    const result = await work((done, total) => step?.update(done, total, 'bytes'));
    step?.done();
    return result;
  } catch (error) {
    step?.fail();
    throw error;
  }
}

interface LocalFile {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

async function readFiles(dir: string): Promise<readonly LocalFile[]> {
  const paths = await adapterFolderFiles(dir);
  return Promise.all(
    ADAPTER_FILES.map(async (name) => {
      const hash = createHash('sha256');
      for await (const chunk of createReadStream(paths[name])) hash.update(chunk);
      return { name, path: paths[name], bytes: (await stat(paths[name])).size, sha256: hash.digest('hex') };
    }),
  );
}

function sendFile(
  file: LocalFile,
  target: { readonly url: string; readonly token: string },
  { url, signal }: PushOptions,
  onSent: (bytes: number) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const upload = new Upload(createReadStream(file.path), {
      uploadUrl: new URL(target.url, url).href,
      uploadSize: file.bytes,
      chunkSize: CHUNK_BYTES,
      headers: { authorization: `Bearer ${target.token}` },
      retryDelays: [0, 500, 1_000, 3_000, 5_000],
      storeFingerprintForResuming: false,
      onProgress: onSent,
      onSuccess: () => finish(resolve),
      onError: (error) => finish(() => reject(sendError(file.name, error))),
    });
    const abort = (): void => {
      void upload.abort();
      finish(() => reject(signal?.reason));
    };
    const finish = (settle: () => void): void => {
      signal?.removeEventListener('abort', abort);
      settle();
    };
    if (signal?.aborted) return abort();
    signal?.addEventListener('abort', abort, { once: true });
    upload.start();
  });
}

/** The server's own error where its answer carries one. */
function sendError(name: string, error: unknown): PatchbayError {
  const answer = z
    .object({
      originalResponse: z.object({ getBody: z.custom<() => string>((f) => typeof f === 'function') }),
    })
    .safeParse(error);
  if (answer.success) {
    try {
      const { errors } = z
        .object({
          errors: z.array(z.object({ code: z.string(), message: z.string(), fix: z.string() })).min(1),
        })
        .parse(JSON.parse(answer.data.originalResponse.getBody()));
      const [first] = errors;
      if (first !== undefined) return remoteError(first);
    } catch {
      // Another answer than this server's; the message below says what tus made of it.
    }
  }
  return new PatchbayError('UPLOAD_INCOMPLETE', `${name} could not be sent.`, { field: name, cause: error });
}

async function waitFor(
  first: z.infer<typeof version>,
  options: PushOptions,
): Promise<z.infer<typeof version>> {
  let current = first;
  while (current.state === 'VALIDATING' || current.state === 'UPLOADING') {
    await delay(POLL_MS, undefined, options.signal === undefined ? {} : { signal: options.signal });
    const query = `query Version($id: ID!) { adapterVersion(id: $id) { ${VERSION_FIELDS} } }`;
    const { adapterVersion } = await call(options, query, { id: first.id }, watched);
    if (adapterVersion === null) throw malformed();
    current = adapterVersion;
  }
  return current;
}

async function call<T>(
  { url, key, signal }: PushOptions,
  query: string,
  variables: Readonly<Record<string, unknown>>,
  shape: z.ZodType<T>,
): Promise<T> {
  const response = await fetch(url, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/graphql-response+json, application/json',
      authorization: `Bearer ${key}`,
    },
    body: JSON.stringify({ query, variables }),
    ...(signal === undefined ? {} : { signal }),
  });
  const body = z
    .object({
      data: z.unknown().optional(),
      errors: z
        .array(
          z.object({
            message: z.string(),
            extensions: z.object({ code: z.string(), fix: z.string().optional() }).optional(),
          }),
        )
        .optional(),
    })
    .safeParse(await response.json().catch(() => null));
  if (!body.success) throw malformed();
  const [error] = body.data.errors ?? [];
  if (error !== undefined)
    throw remoteError({ code: 'INTERNAL', message: error.message, ...error.extensions });
  const data = shape.safeParse(body.data.data);
  if (!data.success) throw malformed();
  return data.data;
}

function failOn([first]: z.infer<typeof userErrors>): void {
  if (first !== undefined) throw remoteError(first);
}

function remoteError(error: {
  readonly code: string;
  readonly message: string;
  readonly fix?: string | undefined;
  readonly field?: string | null | undefined;
}): PatchbayError {
  const code = isErrorCode(error.code) ? error.code : 'INTERNAL';
  return new PatchbayError(code, error.message, {
    ...(error.fix === undefined ? {} : { fix: error.fix }),
    ...(error.field == null ? {} : { field: error.field }),
  });
}

function malformed(): PatchbayError {
  return new PatchbayError('INTERNAL', 'The server gave an answer that is not of this API.');
}
