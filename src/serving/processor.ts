import { readFile } from 'node:fs/promises';

/**
 * Whether the processor multiplies unsigned with signed bytes exactly. x86 without VNNI adds pairs of products in 16 bits
 * and saturates; where that cannot be ruled out the answer is no.
 */
export async function multipliesBytesExactly(arch: string, cpuInfoPath = '/proc/cpuinfo'): Promise<boolean> {
  if (arch !== 'x64') return true;
  const info = await readFile(cpuInfoPath, 'utf8').catch(() => '');
  return /^flags\s*:.*\bavx(512)?_vnni\b/m.test(info);
}
