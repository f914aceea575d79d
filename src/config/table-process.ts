import { z } from 'zod';
import type { Read } from './read.ts';
import { choice, durationMs, integer, numberChoice, optionalText, text } from './setting.ts';

const httpUrl = z
  .string()
  .refine((value) => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol));
const postgresUrl = z
  .string()
  .refine((value) => URL.canParse(value) && /^postgres(ql)?:$/.test(new URL(value).protocol));

/** The settings of the process itself: where it listens, what it keeps, what it serves, how it logs. */
export function processTable(read: Read) {
  return {
    server: {
      host: read(
        'Server',
        text(
          {
            env: 'PATCHBAY_HOST',
            doc: 'Address to listen on. `0.0.0.0` opens the server to the network: put TLS in front of it.',
          },
          {
            default: '127.0.0.1',
            schema: z.string().regex(/^[\w.:-]{1,253}$/),
            expected: 'a host name or an IP address',
          },
        ),
      ),
      port: read(
        'Server',
        integer(
          { env: 'PATCHBAY_PORT', alias: 'PORT', doc: 'Port to listen on; 0 takes a free one.' },
          { default: 4000, min: 0, max: 65_535 },
        ),
      ),
      publicUrl: read(
        'Server',
        optionalText(
          {
            env: 'PATCHBAY_PUBLIC_URL',
            doc: 'Base URL under which clients reach the server, when a proxy stands before it; upload addresses begin with it.',
          },
          { schema: httpUrl, expected: 'an http or https URL' },
        ),
      ),
      drainMs: read(
        'Server',
        durationMs(
          {
            env: 'PATCHBAY_DRAIN_MS',
            doc: 'How long a stopping server lets running streams finish before it ends them cleanly.',
          },
          { default: '15s', min: '0ms', max: '1h' },
        ),
      ),
    },
    data: {
      dir: read(
        'Data and database',
        text(
          {
            env: 'PATCHBAY_DATA_DIR',
            doc: 'Folder for the embedded database, imported backbones, adapters and keys; relative to the current folder.',
          },
          {
            default: '.patchbay',
            schema: z
              .string()
              .min(1)
              .refine((value) => !value.startsWith('~')),
            expected: 'a path (`~` is not expanded here)',
          },
        ),
      ),
      databaseUrl: read(
        'Data and database',
        optionalText(
          {
            env: 'DATABASE_URL',
            secrecy: 'url',
            doc: 'Postgres 16 or newer to use in place of the embedded one. Its role must be able to create roles and schemas for the migrations. Several processes may share it.',
          },
          { schema: postgresUrl, expected: 'a postgres:// or postgresql:// URL' },
        ),
      ),
      databasePoolSize: read(
        'Data and database',
        integer(
          { env: 'PATCHBAY_DATABASE_POOL', doc: 'Connections that one process opens at most for requests.' },
          { default: 10, min: 2, max: 200 },
        ),
      ),
      secret: read(
        'Data and database',
        optionalText(
          {
            env: 'PATCHBAY_SECRET',
            secrecy: 'hidden',
            doc: 'Keys the hashes of API keys and signs upload tokens. With the embedded database it is made once and kept in the data folder; with `DATABASE_URL` it is required, because all processes must agree on it. Make one with `openssl rand -hex 32`.',
          },
          { schema: z.string().min(32).max(1024), expected: 'at least 32 characters' },
        ),
      ),
    },
    backbone: {
      source: read(
        'Backbone',
        text(
          {
            env: 'PATCHBAY_BACKBONE',
            doc: 'What to serve: `starter`, or the path of a Hugging Face checkpoint folder, which is imported when it is not yet.',
          },
          {
            default: 'starter',
            schema: z.string().min(1),
            expected: '`starter` or the path of a checkpoint folder',
          },
        ),
      ),
      weightBits: read(
        'Backbone',
        numberChoice(
          {
            env: 'PATCHBAY_WEIGHT_BITS',
            doc: 'Bits of the backbone’s matrices: 32 is exact, 8 and 4 are smaller and faster. Adapters are never quantized.',
          },
          [32, 8, 4],
          32,
        ),
      ),
    },
    log: {
      level: read(
        'Logs',
        choice(
          { env: 'PATCHBAY_LOG_LEVEL', doc: 'Least severe level that is logged.' },
          ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
          'info',
        ),
      ),
      format: read(
        'Logs',
        choice(
          {
            env: 'PATCHBAY_LOG_FORMAT',
            doc: '`json` writes one object a line, `pretty` is for people; `auto` is pretty on a terminal.',
          },
          ['auto', 'pretty', 'json'],
          'auto',
        ),
      ),
    },
    client: {
      url: read(
        'Client commands',
        optionalText(
          {
            env: 'PATCHBAY_URL',
            doc: 'GraphQL URL that client commands talk to; without it, the server of this data folder.',
          },
          { schema: httpUrl, expected: 'an http or https URL' },
        ),
      ),
      key: read(
        'Client commands',
        optionalText(
          {
            env: 'PATCHBAY_KEY',
            secrecy: 'hidden',
            doc: 'API key of client commands; without it, the demo tenant’s key from the data folder.',
          },
          { schema: z.string().min(8).max(512), expected: 'an API key' },
        ),
      ),
    },
  };
}
