import { readFile } from 'node:fs/promises';

/** Memory that this process shares with no other; where the system does not say, its whole resident set. */
export async function privateBytes(): Promise<number> {
  const text = await readFile('/proc/self/smaps_rollup', 'utf8').catch(() => '');
  const kibibytes = [...text.matchAll(/^Private_(?:Clean|Dirty|Hugetlb):\s+(\d+) kB$/gm)].map((match) =>
    Number(match[1]),
  );
  if (kibibytes.length === 0) return process.memoryUsage.rss();
  return kibibytes.reduce((sum, value) => sum + value, 0) * 1024;
}
