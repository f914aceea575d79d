import { InputError } from '../input/errors.ts';
import { MAX_FILE_BYTES } from '../input/read.ts';
import { shown } from '../shown.ts';

/** The most documents of a bundle. */
const MOST_FILES = 100_000;
/** The most bytes of a bundle, unpacked. */
const MOST_BYTES = 1024 ** 3;

/** Counts what a bundle has before any of it is read. */
export class BundleLimits {
  readonly #bundle: string;
  #files = 0;
  #bytes = 0;

  constructor(bundle: string) {
    this.#bundle = bundle;
  }

  /** Takes another file into account, or refuses the bundle. */
  add(path: string, bytes: number): void {
    const file = shown(path);
    if (!path.endsWith('.json')) throw refused(this.#bundle, `has ${file}, which is no .json file`);
    if (bytes > MAX_FILE_BYTES)
      throw refused(this.#bundle, `has ${file} with more than ${MAX_FILE_BYTES} bytes`);
    this.#files += 1;
    this.#bytes += bytes;
    if (this.#files > MOST_FILES) throw refused(this.#bundle, `has more than ${MOST_FILES} files`);
    if (this.#bytes > MOST_BYTES)
      throw refused(this.#bundle, `has more than ${MOST_BYTES} bytes when it is unpacked`);
  }
}

/** A bundle that is not what the specification allows. */
export function refused(bundle: string, what: string): InputError {
  return new InputError(
    'PROOF_UNREADABLE',
    `${bundle} ${what}.`,
    'Give a ZIP file or a folder of documents as they were handed out, and of nothing else.',
  );
}
