import {
  bank,
  capacity,
  fairness,
  fairnessBound,
  MEMORY_ALLOWANCE,
  mixed,
  overload,
  type ScenarioOptions,
} from './scenarios.ts';

/** Runs every scenario and writes what it gave, as Markdown, section by section. */
export function* simReport(options: ScenarioOptions): Iterable<string> {
  const minutes = options.untilMs / 60_000;
  yield `Simulated: ${minutes} minutes each, seed ${options.seed}; capacity ${number(capacity(options.costs), 2)} requests/s.\n`;
  const bound = number(fairnessBound(options.costs));
  yield `\n## Fairness\n\nBound for \`fair\`, in decode tokens: ${bound}, and ${MEMORY_ALLOWANCE} more where memory is scarce.\n\n`;
  yield table(
    [
      'policy',
      'service difference, tenants',
      'adapters of a tenant',
      'quiet client, p95 TTFT, others in share (ms)',
      'others overloading (ms)',
      'ratio',
      'tokens/s',
    ],
    fairness(options).map((row) => [
      row.policy,
      number(row.tenantDifference),
      number(row.adapterDifference),
      number(row.withinMs),
      number(row.overloadedMs),
      number(row.overloadedMs / row.withinMs, 2),
      number(row.tokensPerSecond),
    ]),
  );
  yield '\n## Priorities: 1.5 × capacity, interactive for half of it\n\n';
  yield table(
    ['policy', 'interactive in time', 'batch tokens/s', 'of what is left', 'preemptions'],
    mixed(options).map((row) => [
      row.policy,
      percent(row.attainment),
      number(row.batchTokensPerSecond),
      percent(row.batchTokensPerSecond / row.leftTokensPerSecond),
      number(row.preemptions),
    ]),
  );
  yield '\n## Overload, with early refusal\n\n';
  yield table(
    ['load', 'refused', 'goodput (tokens/s)', 'tokens/s', 'goodput without early refusal'],
    overload(options).map((row) => [
      `${row.load} ×`,
      percent(row.refusedShare),
      number(row.goodput),
      number(row.tokensPerSecond),
      number(row.goodputUnrefused),
    ]),
  );
  yield '\n## More adapters than the bank holds\n\n';
  yield table(
    ['adapters / bank', 'tokens/s', 'longest TTFT / mean'],
    bank(options).map((row) => [`${row.ratio} ×`, number(row.tokensPerSecond), number(row.worstWait, 1)]),
  );
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |\n`;
  return line(head) + line(head.map((_, index) => (index === 0 ? '---' : '---:'))) + rows.map(line).join('');
}

function number(value: number, digits = 0): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: digits, minimumFractionDigits: digits });
}

function percent(share: number): string {
  return `${number(share * 100, 1)} %`;
}
