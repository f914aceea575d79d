import { PatchbayError } from '../../kernel/errors.ts';
import { toConnection, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import { withUserErrors } from '../errors.ts';
import type {
  AdapterResolvers,
  AdapterUploadResolvers,
  AdapterVersionResolvers,
  MutationResolvers,
  QueryResolvers,
  SubscriptionResolvers,
} from '../generated/types.ts';
import { optionalGlobalId, parseGlobalId, requireGlobalId, toGlobalId } from '../ids.ts';
import { mapStream } from '../stream.ts';

export const Adapter = {
  id: ({ id }) => toGlobalId('Adapter', id),
  uuid: ({ id }) => id,
  qualifiedName: ({ owner, name }) => `${owner}/${name}`,
  latestVersion: ({ id }, _args, { loaders }) => loaders.latestVersion.load(id),
  versions: async ({ id }, args, context) => {
    const request = toPageRequest(args);
    const page = await context.services.adapters.listVersions(requirePrincipal(context), id, request);
    return toConnection(page, request, (version) => version.id);
  },
} satisfies AdapterResolvers;

export const AdapterVersion = {
  id: ({ id }) => toGlobalId('AdapterVersion', id),
  uuid: ({ id }) => id,
  adapter: async ({ adapterId }, _args, { loaders }) => {
    const adapter = await loaders.adapter.load(adapterId);
    if (adapter) return adapter;
    throw new PatchbayError('NOT_FOUND', 'The adapter of this version is no longer visible.');
  },
  backbone: ({ backboneDigest }, _args, { loaders }) => loaders.backbone.load(backboneDigest),
} satisfies AdapterVersionResolvers;

export const AdapterUpload = {
  id: ({ id }) => toGlobalId('AdapterUpload', id),
  version: ({ versionId }, _args, { loaders }) =>
    versionId === null ? null : loaders.adapterVersion.load(versionId),
} satisfies AdapterUploadResolvers;

export const adapterQueries = {
  adapters: async (_root, args, context) => {
    const request = toPageRequest(args);
    const includePublic = args.includePublic ?? false;
    const page = await context.services.adapters.list(requirePrincipal(context), includePublic, request);
    return toConnection(page, request, ({ id }) => id);
  },

  adapter: (_root, { id, name }, context) => {
    const caller = requirePrincipal(context);
    if ((id == null) === (name == null)) {
      throw new PatchbayError('BAD_INPUT', 'Give exactly one of `id` and `name`.', { field: 'id' });
    }
    if (name != null) {
      const parts = splitQualifiedName(name);
      return context.services.adapters.getByName(caller, parts.owner, parts.name);
    }
    const ref = parseGlobalId(id ?? '');
    return ref?.type === 'Adapter' ? context.loaders.adapter.load(ref.key) : null;
  },

  adapterVersion: (_root, { id }, context) => {
    requirePrincipal(context);
    const ref = parseGlobalId(id);
    return ref?.type === 'AdapterVersion' ? context.loaders.adapterVersion.load(ref.key) : null;
  },

  upload: (_root, { id }, context) => {
    const caller = requirePrincipal(context);
    const ref = parseGlobalId(id);
    return ref?.type === 'AdapterUpload' ? context.services.adapters.getUpload(caller, ref.key) : null;
  },
} satisfies QueryResolvers;

export const adapterMutations = {
  openAdapterUpload: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(() =>
      context.services.adapters.openUpload(
        caller,
        {
          idempotencyKey: input.idempotencyKey,
          name: input.name,
          backboneDigest: optionalGlobalId('Backbone', input.backbone, 'backbone'),
          files: input.files,
        },
        context,
      ),
    );
  },

  finalizeAdapterUpload: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => ({
      version: await context.services.adapters.finalizeUpload(
        caller,
        {
          idempotencyKey: input.idempotencyKey,
          uploadId: requireGlobalId('AdapterUpload', input.upload, 'upload'),
        },
        context,
      ),
    }));
  },

  setAdapterVisibility: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const id = requireGlobalId('Adapter', input.adapter, 'adapter');
      return {
        adapter: await context.services.adapters.setVisibility(caller, id, input.visibility, context),
      };
    });
  },

  retireAdapterVersion: (_root, { input }, context) => {
    const caller = requirePrincipal(context);
    return withUserErrors(async () => {
      const id = requireGlobalId('AdapterVersion', input.version, 'version');
      return { version: await context.services.adapters.retireVersion(caller, id, context) };
    });
  },
} satisfies MutationResolvers;

export const adapterSubscriptions = {
  adapterVersionState: {
    subscribe: (_root, { upload, version }, context) => {
      const caller = requirePrincipal(context);
      if ((upload == null) === (version == null)) {
        throw new PatchbayError('BAD_INPUT', 'Give exactly one of `upload` and `version`.', {
          field: 'upload',
        });
      }
      const target =
        upload == null
          ? { versionId: requireGlobalId('AdapterVersion', version ?? '', 'version') }
          : { uploadId: requireGlobalId('AdapterUpload', upload, 'upload') };
      return mapStream(context.services.adapters.watchVersion(caller, target), (event) => ({
        adapterVersionState: { ...event, rejection: event.version?.rejection ?? null },
      }));
    },
  },
} satisfies SubscriptionResolvers;

/** `owner/name`, or a bare name under the caller. */
function splitQualifiedName(text: string): { readonly owner: string | null; readonly name: string } {
  const slash = text.indexOf('/');
  return slash === -1
    ? { owner: null, name: text }
    : { owner: text.slice(0, slash), name: text.slice(slash + 1) };
}
