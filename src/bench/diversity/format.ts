import type { Spread } from './analyse.ts';

/** A number with so many digits after the point, and commas. */
export function number(value: number, digits = 0): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: digits, minimumFractionDigits: digits });
}

/** A number with about three digits that mean something. */
export function figure(value: number): string {
  if (value === 0) return '0';
  return number(value, Math.max(0, Math.min(4, 2 - Math.floor(Math.log10(Math.abs(value))))));
}

export function percent(share: number): string {
  return `${number(share * 100)} %`;
}

/** Bytes in the unit that keeps them short. */
export function bytes(value: number): string {
  const units = [
    ['TiB', 2 ** 40],
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
  ] as const;
  const [unit, size] = units.find(([, least]) => value >= least) ?? ['KiB', 2 ** 10];
  return `${figure(value / size)} ${unit}`;
}

/** A median with its range; the median alone where all rounds agree or there was one. */
export function ranged(spread: Spread | null, scale = 1): string {
  if (spread === null) return '–';
  const { median, least, most } = spread;
  if (least === most) return figure(median * scale);
  return `${figure(median * scale)} (${figure(least * scale)}–${figure(most * scale)})`;
}

/** A table in Markdown of figures. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = line(head.map(() => '---:'));
  return [line(head), rule, ...rows.map(line)].join('\n');
}
