// Processor time of a process and of those under it, from /proc.
import { readdir, readFile } from 'node:fs/promises';

/**
 * Processor seconds of a process, and of the processes under it, which are Postgres; null where there is no /proc.
 * @param {number} pid
 * @returns {Promise<{ own: number, under: number } | null>}
 */
export async function processorSeconds(pid) {
  const ids = await readdir('/proc').catch(() => []);
  const stats = await Promise.all(
    ids.filter((id) => /^\d+$/.test(id)).map((id) => readFile(`/proc/${id}/stat`, 'utf8').catch(() => null)),
  );
  const parents = new Map();
  const seconds = new Map();
  for (const stat of stats) {
    if (stat === null) continue;
    // The name may hold spaces and parentheses, so fields are counted from its end: state, parent, …, utime, stime.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const id = Number.parseInt(stat, 10);
    parents.set(id, Number(fields[1]));
    // A process that has ended leaves its time with its parent.
    seconds.set(id, fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / 100);
  }
  const own = seconds.get(pid);
  if (own === undefined) return null;
  const isUnder = (id) => id === pid || (parents.has(id) && isUnder(parents.get(id)));
  const under = [...seconds.keys()].filter((id) => id !== pid && isUnder(id));
  return { own, under: under.reduce((sum, id) => sum + seconds.get(id), 0) };
}
