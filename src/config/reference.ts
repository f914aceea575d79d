import { layout } from './layout.ts';
import { SECTIONS, type Section } from './read.ts';

interface Row {
  readonly section: Section;
  readonly name: string;
  readonly fallback: string;
  readonly expected: string;
  readonly doc: string;
}

/** Writes docs/reference/configuration.md out of the table, so that the page cannot disagree with the program. */
export function configurationReference(): string {
  const rows: Row[] = [];
  layout((section, setting) => {
    rows.push({
      section,
      name: setting.alias === undefined ? setting.env : `${setting.env} (or ${setting.alias})`,
      fallback: setting.fallback === null ? 'none' : `\`${setting.fallback}\``,
      expected: setting.expected,
      doc: setting.doc,
    });
    return setting.defaultValue;
  });
  const parts = [
    '# Configuration',
    '',
    '<!-- Generated from the tables in src/config by `npm run docs:config`; do not edit. -->',
    '',
    'Everything is set by environment variables. `npx patchbay config` prints the effective values and where they',
    'come from; an invalid environment lists every problem at once and exits with code 6. An empty variable counts as',
    'not set. Sizes accept `KB`, `MB`, `GB` (powers of 1024); durations are milliseconds or carry `ms`, `s`, `m`, `h`.',
  ];
  for (const section of SECTIONS) {
    parts.push(
      '',
      `## ${section}`,
      '',
      '| Variable | Default | Accepts | What it does |',
      '|---|---|---|---|',
    );
    for (const row of rows.filter((candidate) => candidate.section === section)) {
      parts.push(`| \`${row.name}\` | ${row.fallback} | ${row.expected} | ${row.doc} |`);
    }
  }
  return `${parts.join('\n')}\n`;
}
