/** Types of stale.mjs, which is plain JavaScript because it runs before the compiler is installed. */
export function fingerprint(
  files: Iterable<readonly [string, string | Uint8Array]>,
  salt?: readonly string[],
): string;
export function installStamp(
  lockfile: string | Uint8Array,
  machine: { readonly nodeMajor: string; readonly platform: string; readonly arch: string },
): string;
export function installMatches(
  lock: unknown,
  installed: unknown,
  machine: { readonly platform: string; readonly arch: string },
): boolean;
export function staleSteps<
  S extends { readonly name: string; readonly inputs: string; readonly outputsPresent: boolean },
>(steps: readonly S[], stamps: Readonly<Record<string, string>>): S[];
export function lockIsStale(
  owner: { readonly pid: number; readonly host: string } | null,
  silentMs: number,
  here: { readonly host: string; readonly isAlive: (pid: number) => boolean },
): boolean;
