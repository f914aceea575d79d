import type { Read } from './read.ts';
import { durationMs, integer } from './setting.ts';

/** How many exports there may be, and for how long. */
export function exportTable(read: Read) {
  return {
    exports: {
      keepMs: read(
        'Exports',
        durationMs(
          { env: 'PATCHBAY_EXPORT_KEEP', doc: 'How long the file of an export is kept.' },
          { default: '24h', min: '1m', max: '8760h' },
        ),
      ),
      urlTtlMs: read(
        'Exports',
        durationMs(
          {
            env: 'PATCHBAY_EXPORT_URL_TTL',
            doc: 'How long the signed address of a file opens it. Every query of the export gives a new one.',
          },
          { default: '15m', min: '1s', max: '168h' },
        ),
      ),
      activeMax: read(
        'Exports',
        integer(
          { env: 'PATCHBAY_EXPORTS_ACTIVE', doc: 'Exports of a tenant that wait or run at the same time.' },
          { default: 3, min: 1, max: 1_000 },
        ),
      ),
      keptMax: read(
        'Exports',
        integer(
          { env: 'PATCHBAY_EXPORTS_KEPT', doc: 'Exports of a tenant whose files are kept at the same time.' },
          { default: 20, min: 1, max: 10_000 },
        ),
      ),
    },
  };
}
