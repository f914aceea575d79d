import { PatchbayError } from '../kernel/errors.ts';
import { isUuid, type Uuid } from '../kernel/ids.ts';

/** Types whose objects have a global id. */
export const NODE_TYPES = [
  'Tenant',
  'ApiKey',
  'Member',
  'Backbone',
  'Adapter',
  'AdapterVersion',
  'AdapterUpload',
  'UsageRecord',
  'Export',
] as const;
type NodeType = (typeof NODE_TYPES)[number];

/** A global id, taken apart. The key is a uuid, or a content digest for backbones. */
interface NodeRef {
  readonly type: NodeType;
  readonly key: string;
}

const KEY_PATTERN = /^[A-Za-z0-9_.-]{1,128}$/;

/** Opaque global id: base64url of `Type:key`. */
export function toGlobalId(type: NodeType, key: string): string {
  return Buffer.from(`${type}:${key}`, 'utf8').toString('base64url');
}

/** Takes a global id apart; undefined when it is not one. Only the canonical spelling counts. */
export function parseGlobalId(id: string): NodeRef | undefined {
  if (id.length > 256) return undefined;
  const text = Buffer.from(id, 'base64url').toString('utf8');
  const colon = text.indexOf(':');
  const type = NODE_TYPES.find((name) => name === text.slice(0, colon));
  const key = text.slice(colon + 1);
  if (type === undefined || !KEY_PATTERN.test(key)) return undefined;
  if (type !== 'Backbone' && !isUuid(key)) return undefined;
  return toGlobalId(type, key) === id ? { type, key } : undefined;
}

/** The key inside a global id of the given type, or `BAD_INPUT` that names the argument. */
export function requireGlobalId(type: NodeType, id: string, field: string): Uuid {
  const ref = parseGlobalId(id);
  if (ref?.type === type) return ref.key;
  throw new PatchbayError('BAD_INPUT', `\`${field}\` is not the global id of ${describe(type)}.`, { field });
}

/** {@link requireGlobalId} of an argument that may be left out. */
export function optionalGlobalId(type: NodeType, id: string | null | undefined, field: string): Uuid | null {
  return id == null ? null : requireGlobalId(type, id, field);
}

function describe(type: NodeType): string {
  const words = type.replace(/(?<=[a-z])([A-Z])/g, ' $1').toLowerCase();
  return `${/^[aeiou]/.test(words) && !words.startsWith('us') ? 'an' : 'a'} ${words}`;
}
