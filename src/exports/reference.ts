import type { ColumnType } from './column.ts';
import { SOURCE_NAMES, SOURCES } from './sources.ts';

/** How each type is written in each format. */
const TYPES: Readonly<Record<ColumnType, readonly [csv: string, jsonl: string, parquet: string]>> = {
  uuid: ['36 characters', 'string', 'STRING'],
  text: ['text', 'string', 'STRING'],
  hex: ['hexadecimal digits', 'string', 'STRING'],
  integer: ['digits', 'number', 'INT32'],
  bigint: ['digits', 'string', 'INT64'],
  decimal: ['digits', 'string', 'STRING'],
  timestamp: ['`2026-01-31T12:00:00.000000Z`', 'string, the same', 'INT64, TIMESTAMP in microseconds, UTC'],
  json: ['JSON as text', 'array or object', 'STRING with JSON'],
};

const INTRODUCTION = `# Exports

<!-- Generated from src/exports by \`npm run docs:exports\`; do not edit. -->

An export is a file of facts of a range of time, as CSV, JSON Lines or Parquet, with the number of its rows and its
SHA-256: usage, charges, the ledger, invoices, credit notes or payouts. A tenant exports its own, an operator those of one
tenant or of all.

## How to get one

Over GraphQL, \`createExport\` asks for one and \`export(id)\` follows it: \`rowsDone\` of \`rowsExpected\`, then \`url\`. The
address opens the file without a key until \`urlExpiresAt\` (\`PATCHBAY_EXPORT_URL_TTL\`), so treat it like a key; every
query gives a new one. It answers \`GET\` and \`HEAD\` with the checksum as \`ETag\`. An interrupted download goes on with
\`Range\` and \`If-Range\`, for instance by \`curl -C - -O "$url"\`. \`usage:read\` is needed for usage, \`billing:read\` for
everything else, both to ask and to see. A tenant has at most \`PATCHBAY_EXPORTS_ACTIVE\` that wait or run, and
\`PATCHBAY_EXPORTS_KEPT\` in all; more are refused with \`EXPORT_LIMIT\`. A file is removed after \`PATCHBAY_EXPORT_KEEP\`,
or by \`deleteExport\`.

On the operator's machine, \`npx patchbay export\` does the same with the same code, without a server
([command line](cli.md#export)).

## What can be relied on

- **The same range gives the same bytes**, whenever and by whomever it is exported, as long as the program's version is the
  same. Facts are never changed, and each has the time at which the transaction that wrote it began. A range therefore
  ends at the latest where every such transaction has ended, and thirty seconds before now: nothing can be added before
  that any more. \`until\` says where it ends. What is written while an export runs lies behind its end. Transfers that
  are written one at a time (top-ups), invoices, credit notes and payouts carry the server's clock instead, which must not be
  that far behind the database's. What still changes of an invoice is told as it was at the end of the range, and a
  payout is exported when nothing of it can change any more.
- **The number of rows is the database's.** When the file is written, the database counts the rows of the range once more.
  Facts are only ever added, so equal numbers mean equal rows. A file that came to less would be written anew.
- **A kill costs little time.** Exports are written under a lease. Every 100,000 rows the file is made durable, and the
  export's row takes down how far it is: the key of the last row, the bytes and their SHA-256, and for Parquet what
  the end of the file will say of the row groups so far. When a server dies or stops, another copies that much into a
  file of its own, checks it on the way, and goes on from there to the same bytes. It begins anew when the part is not
  there or not as it was, when its program would make other bytes of the rows, or when the writing failed by itself. No
  two servers ever write to one file, and a file gets its name when it is complete and on the disk. The command line
  keeps nothing of an export that was interrupted.
- **Memory does not grow with the rows.** They are read in pages of 5,000, each in a short transaction of its own, as
  the tenant behind row-level security. Parquet is written in row groups of 20,000 rows, and what its end says of the
  groups is all that grows: about 2 MB for a million rows. A server writes one export at a time, in a thread of its own
  that may take 256 MB, so that streams do not wait for it.
- Rows are in the order of the key that each source names.

## Formats

- **CSV** is RFC 4180: UTF-8 without a byte order mark, a header, CR LF after every line. Null is nothing, an empty text is
  \`""\`. A text that begins with \`=\`, \`+\`, \`-\`, \`@\`, a tab or a carriage return would be run as a formula by
  spreadsheets; it gets a \`'\` in front. So does one that begins with a \`'\`, so that who takes one \`'\` away always has
  the text. Numbers keep their sign.
- **JSON Lines**: one object a line, with all columns, nulls included. Integers of 64 bits are strings, because JSON readers
  lose digits past 2^53.
- **Parquet**: Snappy; columns that may be null are OPTIONAL, the others REQUIRED. Integers and microseconds are exact.

| Type | CSV | JSON Lines | Parquet |
| --- | --- | --- | --- |
`;

/** Writes docs/reference/exports.md out of the definitions that exports are written by. */
export function exportsReference(): string {
  const types = Object.entries(TYPES).map(
    ([type, [csv, jsonl, parquet]]) => `| ${type} | ${csv} | ${jsonl} | ${parquet} |\n`,
  );
  return INTRODUCTION + types.join('') + SOURCE_NAMES.map(section).join('');
}

function section(name: (typeof SOURCE_NAMES)[number]): string {
  const { description, scope, timeColumn, orderedBy, columns } = SOURCES[name];
  const rows = columns.map(
    (one) =>
      `| \`${one.name}\` | ${one.type}${one.nullable ? ', null' : ''} | ${one.unit ?? ''} | ${one.description} |\n`,
  );
  return `
## ${name}

${description}

Scope \`${scope}\`; the range is about \`${timeColumn}\`; ordered by \`${orderedBy}\`.

| Column | Type | Unit | What it is |
| --- | --- | --- | --- |
${rows.join('')}`;
}
