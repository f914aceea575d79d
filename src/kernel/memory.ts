/** How the memory of a process is divided, for whoever shows it. */
export interface MemoryReport {
  readonly totalBytes: number;
  readonly parts: readonly { readonly name: string; readonly bytes: number }[];
}

/** Bytes as people read them, in powers of 1024 like the settings: `512 MB`, `1.5 GB`. */
export function showBytes(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(1)} GB`;
  return `${Math.ceil(bytes / 2 ** 20)} MB`;
}

/** The parts that take something, on one line: `weights 130 MB, keys and values 2.1 GB`. */
export function memoryText({ parts }: Pick<MemoryReport, 'parts'>): string {
  return parts
    .filter(({ bytes }) => bytes > 0)
    .map(({ name, bytes }) => `${name} ${showBytes(bytes)}`)
    .join(', ');
}
