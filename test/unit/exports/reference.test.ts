import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { EXPORT_FORMATS, EXPORT_SOURCES } from '../../../src/cli/ports.ts';
import { FORMAT_NAMES, FORMATS } from '../../../src/exports/format.ts';
import { exportsReference } from '../../../src/exports/reference.ts';
import { countSql, pageSql } from '../../../src/exports/source.ts';
import { SOURCE_NAMES, SOURCES } from '../../../src/exports/sources.ts';
import { isEnumType } from '../../../src/graphql/graphql-js.ts';
import { createSchema } from '../../../src/graphql/schema.ts';

const PAGE = new URL('../../../docs/reference/exports.md', import.meta.url);
const page = exportsReference();

test('the page in the repository is the one that the definitions give', () => {
  // As written by `npm run docs:exports`.
  expect(readFileSync(PAGE, 'utf8')).toBe(page);
});

test('every column of every source is documented once, with its type, and numbers of something with their unit', () => {
  for (const name of SOURCE_NAMES) {
    const section = page.split(`\n## ${name}\n`)[1]?.split('\n## ')[0] ?? '';
    for (const { name: column, type, unit, description } of SOURCES[name].columns) {
      const rows = section.split('\n').filter((line) => line.startsWith(`| \`${column}\` |`));
      expect(rows, `${name}.${column}`).toHaveLength(1);
      expect(rows[0]).toContain(`| ${type}`);
      if (unit !== null) expect(rows[0]).toContain(`| ${unit} |`);
      expect(description).toMatch(/^[A-Z`].*\.$/s);
      if (/_(nano|us|tokens)$/.test(column)) expect(unit, column).not.toBeNull();
    }
  }
});

test('columns have names of one form, each once, and a cell in every part', () => {
  for (const name of SOURCE_NAMES) {
    const { columns, parts } = SOURCES[name];
    const names = columns.map((column) => column.name);
    expect(new Set(names).size).toBe(names.length);
    for (const one of names) expect(one).toMatch(/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/);
    for (const part of parts) expect(Object.keys(part.cells)).toEqual(names);
  }
});

test('a tenant’s statements name the tenant in every part', () => {
  for (const name of SOURCE_NAMES) {
    const { parts } = SOURCES[name];
    expect(pageSql(SOURCES[name], 'TENANT').split('$7').length).toBe(parts.length + 1);
    expect(countSql(SOURCES[name], 'TENANT').split('$5').length).toBe(parts.length + 1);
    expect(pageSql(SOURCES[name], 'ALL')).not.toContain('$7');
  }
});

test('the command line and the schema offer every source and format', () => {
  const schema = createSchema();
  const values = (type: string): readonly string[] => {
    const found = schema.getType(type);
    return isEnumType(found) ? found.getValues().map(({ name }) => name.toLowerCase()) : [];
  };
  expect(SOURCE_NAMES).toEqual(Object.keys(SOURCES));
  expect(FORMAT_NAMES).toEqual(Object.keys(FORMATS));
  for (const offered of [EXPORT_SOURCES, values('ExportSource')]) expect(offered).toEqual(SOURCE_NAMES);
  for (const offered of [EXPORT_FORMATS, values('ExportFormat')]) expect(offered).toEqual(FORMAT_NAMES);
});
