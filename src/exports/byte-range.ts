/** What of a file a request is answered with; the last byte included. */
export type ByteRange =
  | { readonly kind: 'WHOLE' }
  | { readonly kind: 'PART'; readonly first: number; readonly last: number }
  | { readonly kind: 'OUTSIDE' };

const WHOLE: ByteRange = { kind: 'WHOLE' };

/** What a client says of the part that it wants. */
export interface RangeHeaders {
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
}

/**
 * Reads a `Range` (RFC 9110). Several ranges, other units and what cannot be read are answered with the whole file, as
 * the standard allows; so is a range of a file that is not the one that the client has the beginning of.
 */
export function byteRange({ range, ifRange }: RangeHeaders, etag: string, size: number): ByteRange {
  if (range === undefined || (ifRange !== undefined && ifRange !== etag)) return WHOLE;
  const [, from, to] = /^bytes=(\d{0,16})-(\d{0,16})$/.exec(range.trim()) ?? [];
  if (from === undefined || to === undefined || (from === '' && to === '')) return WHOLE;
  if (from === '') {
    const length = Math.min(Number(to), size);
    return length === 0 ? { kind: 'OUTSIDE' } : { kind: 'PART', first: size - length, last: size - 1 };
  }
  const first = Number(from);
  const last = to === '' ? size - 1 : Math.min(Number(to), size - 1);
  if (to !== '' && Number(to) < first) return WHOLE;
  return first >= size ? { kind: 'OUTSIDE' } : { kind: 'PART', first, last };
}

/** Whether `If-None-Match` names what the client has already. */
export function matchesTag(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false;
  return ifNoneMatch.split(',').some((tag) => ['*', etag, `W/${etag}`].includes(tag.trim()));
}
