import { z } from 'zod';
import { withProgress } from '../../observability/progress.ts';
import { resolveConnection } from '../connection.ts';
import { EXIT } from '../exit-codes.ts';
import { request } from '../graphql-client.ts';
import { type CliIo, progressFor } from '../io.ts';
import { table } from '../table.ts';

/** Flags that every client command has. */
export interface ClientFlags {
  readonly url?: string;
  readonly key?: string;
  readonly json: boolean;
}

/** What `patchbay adapter list` sends; a test checks it against the schema. */
export const LIST = `query Adapters($after: String, $includePublic: Boolean!) {
  adapters(first: 100, after: $after, includePublic: $includePublic) {
    edges { node {
      id qualifiedName visibility
      latestVersion { number state rank modules bytes digest }
      versions(first: 1) { edges { node { number state rejection { code message } } } }
    } }
    pageInfo { hasNextPage endCursor }
  }
}`;

const version = z.object({
  number: z.number(),
  state: z.string(),
  rank: z.number().nullable(),
  modules: z.number().nullable(),
  bytes: z.string().nullable(),
  digest: z.string().nullable(),
});
const adapter = z.object({
  id: z.string(),
  qualifiedName: z.string(),
  visibility: z.string(),
  latestVersion: version.nullable(),
  versions: z.object({
    edges: z.array(
      z.object({
        node: z.object({
          number: z.number(),
          state: z.string(),
          rejection: z.object({ code: z.string(), message: z.string() }).nullable(),
        }),
      }),
    ),
  }),
});
const page = z.object({
  adapters: z.object({
    edges: z.array(z.object({ node: adapter })),
    pageInfo: z.object({ hasNextPage: z.boolean(), endCursor: z.string().nullable() }),
  }),
});

/** Lists adapters and what became of their newest upload. */
export async function adapterList(
  io: CliIo,
  flags: ClientFlags & { readonly public: boolean },
): Promise<number> {
  const connection = await resolveConnection(io.loadConfig().config, flags);
  const found: z.infer<typeof adapter>[] = [];
  let after: string | null = null;
  do {
    const answer: z.infer<typeof page> = await request(
      connection,
      LIST,
      { after, includePublic: flags.public },
      page,
    );
    found.push(...answer.adapters.edges.map((edge) => edge.node));
    after = answer.adapters.pageInfo.hasNextPage ? answer.adapters.pageInfo.endCursor : null;
  } while (after !== null);
  if (flags.json) {
    io.out(`${JSON.stringify({ adapters: found })}\n`);
    return EXIT.ok;
  }
  const rows = found.map(({ qualifiedName, visibility, latestVersion, versions }) => {
    const newest = versions.edges[0]?.node;
    const note =
      newest !== undefined && newest.number !== latestVersion?.number
        ? `v${newest.number} ${newest.state}`
        : '';
    const why = newest?.rejection ? ` (${newest.rejection.code})` : '';
    return [
      qualifiedName,
      visibility.toLowerCase(),
      latestVersion === null ? '-' : `v${latestVersion.number}`,
      latestVersion?.rank == null ? '-' : String(latestVersion.rank),
      latestVersion?.digest?.slice(0, 12) ?? '-',
      note + why,
    ];
  });
  io.out(
    rows.length === 0
      ? 'No adapters.\n'
      : table(['ADAPTER', 'VISIBILITY', 'READY', 'RANK', 'DIGEST', 'NOTE'], rows),
  );
  return EXIT.ok;
}

/** Checks a folder as an upload would be checked, without a server. */
export async function adapterValidate(
  io: CliIo,
  dir: string,
  flags: { readonly backbone: string; readonly json: boolean },
): Promise<number> {
  const { config } = io.loadConfig();
  const [
    { readAdapterFolder },
    { DEFAULT_ADAPTER_LIMITS },
    { parseModelConfig },
    { readJson },
    { requireEffect },
  ] = await Promise.all([
    import('../../adapter/folder.ts'),
    import('../../adapter/limits.ts'),
    import('../../backbone/config.ts'),
    import('../../backbone/import.ts'),
    import('../../adapter/read.ts'),
  ]);
  const shape = parseModelConfig(await readJson(flags.backbone, 'config.json'));
  const { summary } = await withProgress(progressFor(io, flags.json), `Checking ${dir}`, async () => {
    const read = await readAdapterFolder(dir, {
      shape,
      // The digest is not shown: it also covers the imported backbone, which this command does without.
      backboneDigest: '',
      limits: {
        ...DEFAULT_ADAPTER_LIMITS,
        maxRank: config.adapters.maxRank,
        maxTensorsBytes: config.adapters.maxBytes,
      },
    });
    requireEffect(read.summary);
    return read;
  });
  if (flags.json) io.out(`${JSON.stringify({ ok: true, summary })}\n`);
  else
    io.out(`${dir} can be served on ${flags.backbone}.\nThe server also runs a canary prompt through it.\n`);
  return EXIT.ok;
}
